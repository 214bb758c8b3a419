import pickle
import zipfile

import pytest
import torch
from torch import nn

import declip
from d2host.engine.errors import CheckpointError
from declip.weights.files import read_state_dict
from declip.weights.torchscript import is_torchscript, read_torchscript

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        self.logit_scale = nn.Parameter(torch.tensor(2.5))
        self.register_buffer("input_resolution", torch.tensor(224))

    def forward(self, x):
        return self.visual(x) * self.logit_scale


@pytest.fixture
def archive(tmp_path):
    module = Towers().half()
    torch.jit.script(module).save(str(tmp_path / "clip.pt"))
    return module, tmp_path / "clip.pt"


def test_tensors_are_those_of_the_module(archive):
    module, path = archive
    tensors = read_torchscript(path)
    assert tensors.keys() == module.state_dict().keys()
    assert all(torch.equal(tensors[key], value) for key, value in module.state_dict().items())


def test_weight_files_may_be_archives(archive):
    assert read_state_dict(archive[1])["visual.0.weight"].dtype == torch.float16


def test_other_files_are_no_archives(tmp_path):
    torch.save(Towers().state_dict(), tmp_path / "state.pt")
    (tmp_path / "text.pt").write_text("no zip")
    assert not is_torchscript(tmp_path / "state.pt") and not is_torchscript(tmp_path / "text.pt")


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_an_archive_with_code_in_its_data_is_refused(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as file:
        file.writestr("evil/code/__torch__.py", "")
        file.writestr("evil/data.pkl", pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"evil\.pt cannot be read .*: it is damaged or holds more than tensors"):
        declip.build_encoder("nano", str(tmp_path / "evil.pt"))
    assert "code ran" not in capsys.readouterr().out
