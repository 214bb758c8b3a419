import numpy as np
import torch

from d2host.engine.errors import DataError
from d2host.engine.packing import pack, unpack


def test_a_batch_arrives_as_it_was():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (3, 5, 7), dtype=np.uint8))
    tensors = {
        "image": image,
        "mirrored": image.flip(2)[:, ::2],
        "labels": torch.arange(12).reshape(3, 4).T,
        "scores": torch.tensor(0.5, dtype=torch.bfloat16),
        "masks": torch.zeros(0, 4, dtype=torch.bool),
    }
    batch = [{**tensors, "file_name": "a.jpg"}, {"image": image, "sizes": (1, [2, None])}, DataError("b.jpg is bad")]
    found = unpack(pack(batch))
    for name, tensor in tensors.items():
        assert found[0][name].dtype == tensor.dtype and torch.equal(found[0][name], tensor), name
    assert found[0]["file_name"] == "a.jpg" and found[1]["sizes"] == (1, [2, None])
    assert torch.equal(found[1]["image"], image) and str(found[2]) == "b.jpg is bad"


def test_tensors_of_a_batch_share_one_block():
    found = unpack(pack([torch.zeros(100), torch.ones(3), torch.ones(3, dtype=torch.int16)]))
    assert len({tensor.untyped_storage().data_ptr() for tensor in found}) == 1
    assert all(tensor.is_shared() for tensor in found)
    found[1].zero_()
    assert found[2].sum() == 3


def test_a_batch_without_tensors_needs_no_memory():
    assert unpack(pack([{"file_name": "a"}])) == [{"file_name": "a"}]
