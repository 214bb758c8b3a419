"""What happens before a run."""

import pytest

from d2host.engine.errors import ConfigError
from d2host.engine.setup import resolve_device


@pytest.mark.parametrize(
    "device", ["gpu", "meta", "", "0", "cpu:x", "cuda:x", "cuda:-1", "cuda:999", "xla", "hpu", "privateuseone", "CPU"]
)
def test_devices_that_are_not_there_are_refused(device):
    with pytest.raises(ConfigError, match=rf"^device '{device}' \(MODEL\.DEVICE, --device\) is not here: choose auto"):
        resolve_device(device)


def test_devices_that_are_there_are_kept():
    assert resolve_device("cpu") == "cpu" and resolve_device("auto") in ("cpu", "cuda")
