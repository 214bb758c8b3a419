import pytest
import torch
from torch import nn

from d2host.engine.checkpoint import RunCheckpointer, load_run
from d2host.engine.errors import CheckpointError


def test_a_saved_run_is_restored_exactly(tmp_path):
    model = nn.Linear(3, 2)
    path = RunCheckpointer(tmp_path).save("model_0000004", model, {"iteration": 4, "moments": torch.ones(2)})
    other = nn.Linear(3, 2)
    state = load_run(path, other)
    assert state["iteration"] == 4 and torch.equal(other.weight, model.weight)


def test_only_the_newest_periodic_checkpoints_and_the_final_one_are_kept(tmp_path):
    checkpointer = RunCheckpointer(tmp_path, keep=2)
    for name in ("model_0000001", "model_0000002", "model_0000003", "model_final"):
        checkpointer.save(name, nn.Linear(1, 1), {})
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == [
        "model_0000002.pth",
        "model_0000003.pth",
        "model_final.pth",
    ]
    assert checkpointer.last().name == "model_final.pth"


def test_a_failed_write_leaves_the_last_checkpoint_and_names_it(tmp_path, monkeypatch):
    checkpointer = RunCheckpointer(tmp_path)
    checkpointer.save("model_0000001", nn.Linear(1, 1), {})

    def full_disk(content, file):
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(
        CheckpointError, match=r"model_0000002\.pth could not be written .*No space.*model_0000001\.pth"
    ):
        checkpointer.save("model_0000002", nn.Linear(1, 1), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_0000001.pth"]
    assert checkpointer.last().name == "model_0000001.pth"


def test_a_directory_without_checkpoint_has_no_last_one(tmp_path):
    assert RunCheckpointer(tmp_path).last() is None
    (tmp_path / "last_checkpoint").write_text("gone.pth")
    assert RunCheckpointer(tmp_path).last() is None


def test_a_checkpoint_of_another_model_lists_the_differences(tmp_path):
    path = RunCheckpointer(tmp_path).save("model_final", nn.Linear(3, 2), {})
    with pytest.raises(CheckpointError, match=r"of another model than the config describes: 2 of wrong shape \(weight"):
        load_run(path, nn.Linear(4, 5))


def test_unreadable_checkpoints_are_named(tmp_path):
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(CheckpointError, match=r"cut\.pth cannot be read"):
        load_run(tmp_path / "cut.pth", nn.Linear(1, 1))
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"bare\.pth holds weights but no training state"):
        load_run(tmp_path / "bare.pth", nn.Linear(1, 1))
