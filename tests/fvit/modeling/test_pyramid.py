import pytest
import torch

from fvit.modeling.pyramid import Pyramid, pyramid_strides


@pytest.mark.parametrize(("patch", "side"), [(16, 640), (16, 1024), (14, 896)])
def test_maps_have_the_sides_that_their_strides_say(patch, side):
    grid = side // patch
    with torch.no_grad():
        maps = Pyramid(8, 4).eval()([torch.randn(1, 8, grid, grid)] * 4)
    assert [each.shape[-1] for each in maps] == [side / stride for stride in pyramid_strides(patch)]


def test_evaluation_composes_layers_without_another_result():
    torch.manual_seed(0)
    pyramid = Pyramid(12, 8)
    for norm in (module for module in pyramid.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    pyramid.eval()
    blocks = list(torch.randn(4, 2, 12, 6, 10))
    plain = pyramid(blocks)  # with gradients
    with torch.inference_mode():
        composed = pyramid(blocks)
    torch.testing.assert_close(composed, [each.detach() for each in plain], atol=1e-5, rtol=1e-4)
