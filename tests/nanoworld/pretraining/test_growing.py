import torch

import declip
from nanoworld.evaluation import close_up_accuracy, scenes_of
from nanoworld.pretraining import ContrastivePretraining


@torch.no_grad()
def test_a_grown_encoder_begins_with_what_the_shallow_one_knew():
    """Halves of a feed-forward layer that saw the same input would give exactly its output; the second sees more."""
    torch.manual_seed(0)
    grown = ContrastivePretraining("nano-clip-12", grow_from="nano-clip").encoder.eval()
    shallow = declip.build_encoder("nano", weights="nano-clip", context="vanilla").eval()
    assert (grown.num_blocks, shallow.num_blocks) == (12, 6)
    scenes = scenes_of(77, 10)
    before, after = (close_up_accuracy(encoder, scenes)["closeup_acc"] for encoder in (shallow, grown))
    assert after > before - 5
    assert torch.equal(grown.encode_text(["a red star"]), shallow.encode_text(["a red star"]))
