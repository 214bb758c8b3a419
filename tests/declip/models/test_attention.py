import pytest
import torch

from declip.models.attention import AttentionScale, ContextType, decoupled_attention

HEADS, CHANNELS = 3, 8


def plain(queries, keys, values, context, scale):
    """DeCLIP Eq. 4-6 with explicit attention maps."""
    similarity = lambda x: scale * (x @ x.transpose(-1, -2))  # noqa: E731
    maps = {
        "q": lambda: similarity(queries).softmax(-1),
        "k": lambda: similarity(keys).softmax(-1),
        "v": lambda: similarity(values).softmax(-1),
        "qk": lambda: similarity(queries).softmax(-1) + similarity(keys).softmax(-1),
        "all": lambda: ((similarity(queries) + similarity(keys) + similarity(values)) / 3).softmax(-1),
        "maskclip": lambda: torch.eye(values.shape[-2], dtype=values.dtype),
        "catseg": lambda: torch.eye(values.shape[-2], dtype=values.dtype),
    }
    return maps[context.value]() @ values


@pytest.mark.parametrize("scale", AttentionScale)
@pytest.mark.parametrize("context", [context for context in ContextType if context is not ContextType.VANILLA])
def test_equals_the_plain_formulation_with_gradients(context, scale):
    torch.manual_seed(0)
    inputs = [torch.randn(2, HEADS, 11, CHANNELS, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    fast = decoupled_attention(*inputs, context, scale)
    expected = plain(*inputs, context, CHANNELS**-0.5 if scale is AttentionScale.SQRT_D else 1.0)
    torch.testing.assert_close(fast, expected)
    weights = torch.randn_like(fast)
    for got, wanted in zip(
        *(torch.autograd.grad((out * weights).sum(), inputs, allow_unused=True) for out in (fast, expected)),
        strict=True,
    ):
        assert (got is None) == (wanted is None)
        if got is not None:
            torch.testing.assert_close(got, wanted)


def test_vanilla_has_no_decoupled_attention():
    tensor = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="vanilla"):
        decoupled_attention(tensor, tensor, tensor, ContextType.VANILLA, AttentionScale.NONE)


def test_only_self_self_contexts_are_decoupled():
    kept = {context.value for context in ContextType if not context.decoupled}
    assert kept == {"vanilla", "maskclip", "catseg"}
