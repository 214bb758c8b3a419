"""The fast aggregation against the plain formulation, in float64."""

import pytest
import torch

from catseg.modeling import reference
from catseg.modeling.aggregator import UNSELECTED_LOGIT, Aggregator, cost_volume

EMBED_DIM, NUM_PROMPTS, GUIDANCE = 8, 2, (6, 5)


def make_aggregator(window_size=3, padded_classes=9, aggregate_all=False, **options):
    torch.manual_seed(0)
    aggregator = Aggregator(
        embed_dim=EMBED_DIM,
        num_prompts=NUM_PROMPTS,
        hidden_dim=32,
        num_heads=4,
        window_size=window_size,
        padded_classes=padded_classes,
        aggregate_all=aggregate_all,
        guidance_dims=(8, 8),
        decoder_dims=(32, 16),
        decoder_guidance_dims=((GUIDANCE[0], 4), (GUIDANCE[1], 3)),
        token_chunk=60,
        **options,
    ).double()
    for parameter in aggregator.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return aggregator


def make_inputs(grid, num_classes, batch=2):
    height, width = grid
    generator = torch.Generator().manual_seed(1)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    guidance = [random(batch, GUIDANCE[0], 2 * height, 2 * width), random(batch, GUIDANCE[1], 4 * height, 4 * width)]
    return random(batch, EMBED_DIM, height, width), random(num_classes, NUM_PROMPTS, EMBED_DIM), guidance


CASES = [
    pytest.param((6, 6), 3, 5, id="shifted windows"),
    pytest.param((6, 12), 3, 5, id="non-square grid"),
    pytest.param((3, 3), 3, 5, id="one window covers the grid"),
    pytest.param((6, 6), 3, 9, id="no padding left"),
    pytest.param((4, 8), 4, 11, id="more classes than are aggregated"),
]


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("grid", "window_size", "num_classes"), CASES)
def test_logits_and_gradients_equal_the_plain_formulation(grid, window_size, num_classes, training):
    aggregator = make_aggregator(window_size).train(training)
    inputs = make_inputs(grid, num_classes)
    fast, plain = aggregator(*inputs), reference.aggregate(aggregator, *inputs)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-10)
    weights = torch.randn_like(fast)
    gradients = [
        torch.autograd.grad((logits * weights).sum(), list(aggregator.parameters()), allow_unused=True)
        for logits in (fast, plain)
    ]
    for name, *pair in zip(dict(aggregator.named_parameters()), *gradients, strict=True):
        got, wanted = (torch.zeros(()) if gradient is None else gradient for gradient in pair)
        torch.testing.assert_close(got, wanted.expand_as(got), rtol=1e-7, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


def test_inference_without_gradients_gives_the_same_logits_and_leaves_its_inputs():
    aggregator = make_aggregator().eval()
    inputs = make_inputs((6, 6), 5)
    copies = [inputs[0].clone(), inputs[1].clone()]
    with_gradients = aggregator(*inputs)
    with torch.no_grad():
        torch.testing.assert_close(aggregator(*inputs), with_gradients, rtol=0, atol=1e-12)
    assert torch.equal(inputs[0], copies[0]) and torch.equal(inputs[1], copies[1])


@pytest.mark.parametrize("token_chunk", [1, 36, 10_000])
def test_chunk_size_does_not_change_the_logits(token_chunk):
    aggregator = make_aggregator().eval()
    inputs = make_inputs((6, 6), 5)
    expected = aggregator(*inputs)
    aggregator.token_chunk = token_chunk
    torch.testing.assert_close(aggregator(*inputs), expected, rtol=0, atol=1e-12)


def test_recomputation_does_not_change_gradients():
    gradients = []
    for recompute in (False, True):
        aggregator = make_aggregator(recompute=recompute).train()
        aggregator(*make_inputs((6, 6), 5)).square().mean().backward()
        gradients.append([parameter.grad for parameter in aggregator.parameters()])
    for stored, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, stored, rtol=1e-10, atol=1e-12)


def test_classes_beyond_the_padded_number_get_the_unselected_logit():
    aggregator = make_aggregator(window_size=4).eval()
    logits = aggregator(*make_inputs((4, 4), 12))
    unselected = (logits == UNSELECTED_LOGIT).flatten(2).all(dim=2)
    assert unselected.sum(dim=1).tolist() == [3, 3]


def least_similar(inputs, count):
    """Of each image, the classes that are cut first."""
    cost = cost_volume(*inputs[:2]).amax(dim=(2, 3, 4))
    return list(cost.argsort(dim=1)[:, :count])


@pytest.mark.parametrize("count", [0, 1, 5, 9, 11, 12])
def test_classes_to_keep_are_aggregated_before_the_most_similar_ones(count):
    aggregator, inputs = make_aggregator(window_size=4).train(), make_inputs((4, 4), 12)
    kept = least_similar(inputs, count)
    for logits, classes, image in zip(aggregator(*inputs, kept), kept, range(2), strict=True):
        selected = (logits != UNSELECTED_LOGIT).flatten(1).all(dim=1)
        assert selected[classes].all() and selected.sum() == max(count, 9)
        chosen = selected.nonzero()[:, 0]
        features, guidance = inputs[0][image : image + 1], [each[image : image + 1] for each in inputs[2]]
        alone = make_aggregator(window_size=4, aggregate_all=True).train()(features, inputs[1][chosen], guidance)
        torch.testing.assert_close(logits[chosen], alone[0], rtol=0, atol=1e-10)


def test_a_gradient_reaches_every_class_that_is_kept():
    aggregator, inputs = make_aggregator(window_size=4).train(), make_inputs((4, 4), 12)
    inputs[1].requires_grad_()
    kept = least_similar(inputs, 4)
    logits = aggregator(*inputs, kept)
    taught = torch.stack([each[classes] for each, classes in zip(logits, kept, strict=True)])
    (gradient,) = torch.autograd.grad(taught.sum(), inputs[1])
    assert all(gradient[classes].abs().sum(dim=(1, 2)).gt(0).all() for classes in kept)


def test_aggregate_all_refines_every_class_of_a_large_vocabulary():
    aggregator = make_aggregator(window_size=4, aggregate_all=True).eval()
    inputs = make_inputs((4, 4), 12)
    logits = aggregator(*inputs)
    assert not (logits == UNSELECTED_LOGIT).any()
    torch.testing.assert_close(logits, reference.aggregate(aggregator, *inputs), rtol=0, atol=1e-10)


def test_autocast_keeps_logits_close():
    aggregator = make_aggregator().float().eval()
    inputs = [x.float() if isinstance(x, torch.Tensor) else [g.float() for g in x] for x in make_inputs((6, 6), 5)]
    expected = aggregator(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = aggregator(*inputs)
    assert logits.dtype == torch.bfloat16
    assert (logits - expected).abs().max() < 0.03 * expected.abs().max()


def test_training_under_autocast_gives_gradients_close_to_full_precision():
    gradients = []
    for enabled in (False, True):
        aggregator = make_aggregator().float().train()
        inputs = [x.float() if isinstance(x, torch.Tensor) else [g.float() for g in x] for x in make_inputs((6, 6), 5)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = aggregator(*inputs).float().square().mean()
        loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in aggregator.parameters()]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99
