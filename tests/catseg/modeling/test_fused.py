import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from catseg.modeling.category import TextGuidance, linear_attention
from catseg.modeling.fused import after_norm, observed, standardize, upsample_then_convolve


def test_a_folded_norm_equals_the_norm_followed_by_the_linear_map():
    norm, linear = nn.LayerNorm(6).double(), nn.Linear(6, 4).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    folded = after_norm(norm, linear)
    torch.testing.assert_close(folded(standardize(x, torch.float64)), linear(norm(x)))


def test_the_composed_kernel_equals_up_convolution_then_convolution():
    up = nn.ConvTranspose2d(5, 3, kernel_size=2, stride=2, bias=False).double()
    convolution = nn.Conv2d(3, 4, kernel_size=3, padding=1, bias=False).double()
    x = torch.randn(2, 5, 4, 7, dtype=torch.float64)
    composed = F.conv_transpose2d(x, upsample_then_convolve(up, convolution.weight), stride=2, padding=1)
    torch.testing.assert_close(composed, convolution(up(x)))


def test_padding_sums_equal_really_padded_linear_attention():
    heads, channels, padding = 2, 3, 4
    queries, keys, values = (torch.randn(1, heads, 5, channels, dtype=torch.float64) for _ in range(3))
    pad_key, pad_value = (torch.randn(heads, 1, channels, dtype=torch.float64) for _ in range(2))
    padded_keys = torch.cat([keys, pad_key.expand(1, heads, padding, -1)], dim=2)
    padded_values = torch.cat([values, pad_value.expand(1, heads, padding, -1)], dim=2)
    zero = torch.zeros((), dtype=torch.float64)
    expected = linear_attention(queries, padded_keys, padded_values, TextGuidance(zero, zero, zero, zero))
    mapped = (F.elu(pad_key) + 1).transpose(1, 2)
    sums = TextGuidance(zero, zero, padding * mapped, padding * mapped * pad_value)
    got = linear_attention(queries, keys, values, sums)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("register", [register_module_forward_hook, register_module_forward_pre_hook])
def test_a_hook_on_all_modules_counts_as_an_observer(register):
    layer = nn.Linear(2, 2)
    assert not observed(layer)
    handle = register(lambda *_: None)
    try:
        assert observed(layer)
    finally:
        handle.remove()
    assert not observed(layer)
