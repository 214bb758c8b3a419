"""Devices that are there, and others."""

import pytest
import torch

from d2host.engine.errors import ConfigError
from d2host.engine.setup import resolve_device


@pytest.mark.parametrize("device", ["cpu", "cpu:0", "auto"])
def test_a_device_that_is_there_is_found(device):
    expected = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"
    assert resolve_device(device) == expected


@pytest.mark.parametrize("device", ["cuda:99", "cuda:-1", "CUDA", "tpu", "meta", "xla", "", " cpu", "cuda:x", "9"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ConfigError, match=rf"device '{device}' \(.*\) is not here: choose auto, cpu"):
        resolve_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_without_a_gpu_none_is_promised(device):
    with pytest.raises(ConfigError, match=f"'{device}'"):
        resolve_device(device)
