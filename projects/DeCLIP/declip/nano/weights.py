"""The nano world's own weights, shipped with the package and loaded by name."""

from collections.abc import Mapping

from torch import Tensor


def half_precision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with floating-point ones in float16, as the shipped files hold them."""
    return {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
