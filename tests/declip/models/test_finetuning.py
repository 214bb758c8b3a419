import pytest
import torch

import declip
from d2host.engine.optimizer import OptimizerOptions, build_optimizer
from declip.models.finetuning import FinetunePolicy, apply_finetuning, no_weight_decay


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return declip.build_encoder("nano", "random")


def trained(encoder):
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def step(encoder):
    options = OptimizerOptions(lr=0.1, weight_decay=0.5, no_decay=no_weight_decay(encoder))
    optimizer = build_optimizer(encoder, options)
    images = torch.randn(1, 3, 32, 32)
    text = encoder.encode_text(["a red circle"])
    (encoder.encode_dense(images).content.mean() + text.square().mean()).backward()
    optimizer.step()


def test_frozen_trains_nothing_and_full_everything(encoder):
    apply_finetuning(encoder, FinetunePolicy.FROZEN)
    assert not trained(encoder)
    apply_finetuning(encoder, FinetunePolicy.FULL)
    assert trained(encoder) == dict(encoder.named_parameters()).keys()


def test_attention_trains_shared_projections_and_positions(encoder):
    apply_finetuning(encoder, FinetunePolicy.ATTENTION)
    assert all("in_proj" in name or "positional_embedding" in name for name in trained(encoder))
    blocks = len(encoder.clip.visual.transformer.resblocks) + len(encoder.clip.transformer.resblocks)
    assert len(trained(encoder)) == 2 * blocks + 2


def test_key_rows_stay_bit_for_bit_under_decay_while_queries_and_values_move(encoder):
    apply_finetuning(encoder, FinetunePolicy.ATTENTION)
    weight = encoder.clip.visual.transformer.resblocks[2].attn.in_proj_weight
    before = weight.detach().clone().chunk(3)
    step(encoder)
    after = weight.detach().chunk(3)
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0], after[0]) and not torch.equal(before[2], after[2])


def test_full_tuning_moves_keys_too(encoder):
    apply_finetuning(encoder, FinetunePolicy.FULL)
    assert no_weight_decay(encoder) == set()
    weight = encoder.clip.visual.transformer.resblocks[2].attn.in_proj_weight
    before = weight.detach().clone().chunk(3)[1]
    step(encoder)
    assert not torch.equal(before, weight.chunk(3)[1])
