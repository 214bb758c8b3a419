import torch

from d2host.engine.digest import digest_of


def test_digests_differ_with_names_and_with_any_number():
    plain, changed = torch.zeros(5000), torch.zeros(5000)
    changed[-1] = 1
    digests = {digest_of(given) for given in ({"a": plain}, {"b": plain}, {"a": changed}, {"a": plain.half()})}
    assert len(digests) == 4 and digest_of({"a": torch.zeros(5000)}) in digests
