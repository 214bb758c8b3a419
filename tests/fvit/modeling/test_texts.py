import torch

import declip
from declip.models.templates import Templates
from declip.models.zero_shot_classifier import embed_names
from fvit.modeling.texts import ClassTexts


def test_embeddings_are_kept_while_names_and_weights_stay():
    encoder, texts = declip.build_encoder("nano", "nano-clip").eval(), ClassTexts(Templates.DETECTION)
    with torch.inference_mode():
        first = texts(encoder, ["red ring", "background"])
    torch.testing.assert_close(first, embed_names(encoder, ["red ring", "background"], Templates.DETECTION))
    assert texts(encoder, ["red ring", "background"]) is first and not first.is_inference()
    assert texts(encoder, ["blue star", "background"]) is not first
    encoder.load_state_dict(declip.build_encoder("nano", "random").state_dict())
    changed = texts(encoder, ["red ring", "background"])
    assert not torch.allclose(changed, first)
