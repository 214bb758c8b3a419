import errno
import logging
import os
import random

import pytest
import torch
from torch import nn

from d2host.engine.checkpoint import RunCheckpointer
from d2host.engine.checkpoint_file import load_run, load_weights, read_run
from d2host.engine.errors import CheckpointError, ConfigError


def training(iteration):
    needed = {"iteration": iteration, "optimizer": {}, "scaler": {}, "generators": []}
    return {**needed, "metrics": [], "config": {}, "places": []}


def saved(folder, *iterations, keep=0):
    """A folder with checkpoints whose model's bias is the iteration."""
    checkpointer = RunCheckpointer(folder, keep)
    for iteration in iterations:
        model = nn.Linear(3, 1)
        nn.init.constant_(model.bias, iteration)
        checkpointer.save(f"model_{iteration:07d}", model, training(iteration))
    return checkpointer


def test_a_saved_run_is_restored_exactly(tmp_path):
    model = nn.Linear(3, 2)
    path = RunCheckpointer(tmp_path).save("model_0000004", model, training(4) | {"metrics": [(4, "loss", 0.5, True)]})
    other = nn.Linear(3, 2)
    state = load_run(path, other)
    assert state["iteration"] == 4 and state["metrics"] == [(4, "loss", 0.5, True)]
    assert torch.equal(other.weight, model.weight)


def test_checkpoints_of_earlier_versions_go_on_without_what_they_lack(tmp_path):
    older = {key: value for key, value in training(4).items() if key not in ("metrics", "config", "places")}
    path = RunCheckpointer(tmp_path).save("model_0000004", nn.Linear(3, 2), older)
    assert read_run(path)["training"] == training(4)


def test_only_the_newest_periodic_checkpoints_and_the_final_one_are_kept(tmp_path):
    checkpointer = saved(tmp_path, 1, 2, 3, keep=2)
    checkpointer.save("model_final", nn.Linear(3, 1), training(4))
    names = ["model_0000002.pth", "model_0000003.pth", "model_final.pth"]
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == names
    assert checkpointer.last().name == "model_final.pth"


def test_checkpoints_are_pruned_by_age_and_never_the_one_just_saved(tmp_path):
    saved(tmp_path, 7, 8, 9)
    for path in tmp_path.glob("*.pth"):
        os.utime(path, (2e9, 2e9))  # by a clock that is ahead
    saved(tmp_path, 1, keep=2)
    assert (tmp_path / "model_0000001.pth").is_file() and len(list(tmp_path.glob("*.pth"))) == 2


LOST_POINTERS = {
    "missing": lambda pointer: pointer.unlink(),
    "empty": lambda pointer: pointer.write_text(""),
    "blank": lambda pointer: pointer.write_text("\n"),
    "rubbish": lambda pointer: pointer.write_text("\0{}]"),
    "long": lambda pointer: pointer.write_text("x" * 100_000),
    "undecodable": lambda pointer: pointer.write_bytes(b"\xff\xfe\x80"),
    "a folder": lambda pointer: (pointer.unlink(), pointer.mkdir(), (pointer / "file").touch()),
    "a dangling link": lambda pointer: (pointer.unlink(), pointer.symlink_to("gone")),
    "a pipe": lambda pointer: (pointer.unlink(), os.mkfifo(pointer)),
    "of a deleted file": lambda pointer: pointer.write_text("model_0000001.pth"),
    "of a path elsewhere": lambda pointer: pointer.write_text("../elsewhere/model_0000099.pth"),
    "of an absolute path": lambda pointer: pointer.write_text(f"{pointer.parents[1]}/elsewhere/model_0000099.pth"),
    "of no checkpoint": lambda pointer: pointer.write_text("config.yaml"),
    "of the folder": lambda pointer: pointer.write_text("."),
}


@pytest.mark.parametrize("lost", LOST_POINTERS)
def test_a_lost_pointer_loses_no_run(lost, tmp_path, caplog):
    saved(tmp_path / "elsewhere", 99)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    checkpointer = saved(tmp_path / "run", 2, 10, 5)
    LOST_POINTERS[lost](tmp_path / "run" / "last_checkpoint")
    assert checkpointer.last().name == "model_0000010.pth"
    assert "last_checkpoint names no checkpoint" in caplog.text
    with pytest.raises(ConfigError, match="of an earlier run: add --resume"):
        checkpointer.require_none()
    checkpointer.save("model_0000011", nn.Linear(3, 1), training(11))
    assert checkpointer.last().name == "model_0000011.pth"


def test_a_pointer_chooses_an_older_checkpoint(tmp_path):
    checkpointer = saved(tmp_path, 2, 5)
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth\n")
    assert checkpointer.last().name == "model_0000002.pth"


def damage(content, seed):
    """The same with something done to it that no longer is what was written."""
    chance = random.Random(seed)
    place = chance.randrange(len(content))
    kinds = [
        lambda: content[:place],
        lambda: content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :],
        lambda: content[:place] + bytes(chance.randrange(64)) + content[place:],
        lambda: content[:place] + content[place + 1 + chance.randrange(64) :],
    ]
    return kinds[seed % len(kinds)]()


def test_damaged_checkpoints_are_skipped_or_as_good_as_new(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    checkpointer = saved(tmp_path, 4, 5)
    path = tmp_path / "model_0000005.pth"
    whole, skipped = path.read_bytes(), 0
    good = read_run(path)["model"]
    for seed in range(300):
        path.write_bytes(damage(whole, seed))
        last = checkpointer.last()
        if last == path:  # such as a byte between the parts of the archive
            content = read_run(last)
            assert all(torch.equal(content["model"][key], good[key]) for key in good), seed
            assert content["training"] == training(5), seed
        else:
            assert last.name == "model_0000004.pth"
            skipped += 1
    assert skipped > 200


def test_what_is_skipped_is_logged_with_its_reason(tmp_path, caplog):
    checkpointer = saved(tmp_path, 4, 5)
    path = tmp_path / "model_0000005.pth"
    path.write_bytes(path.read_bytes()[:-100])
    assert checkpointer.last().name == "model_0000004.pth"
    assert "Skipped: " in caplog.text and "model_0000005.pth cannot be read (" in caplog.text


def test_a_folder_whose_checkpoints_are_all_damaged_is_not_started_anew(tmp_path):
    checkpointer = saved(tmp_path, 4, 5)
    for path in tmp_path.glob("*.pth"):
        path.write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(CheckpointError, match=r"holds 2 checkpoint\(s\), but none that can be gone on from"):
        checkpointer.last()
    with pytest.raises(ConfigError, match="of an earlier run"):
        checkpointer.require_none()


def test_what_only_looks_like_a_checkpoint_is_none(tmp_path):
    (tmp_path / "model_0000001.pth").mkdir()
    (tmp_path / "model_0000002.pth").symlink_to("gone")
    os.mkfifo(tmp_path / "model_0000003.pth")
    (tmp_path / ".model_0000004.here-1.part.pth").touch()
    checkpointer = RunCheckpointer(tmp_path, keep=1)
    assert checkpointer.last() is None
    checkpointer.require_none()
    assert saved(tmp_path, 5, 6, keep=1).last().name == "model_0000006.pth"


OTHER_STATES = {
    "no dict": 3,
    "empty": {},
    **{f"without {key}": {k: v for k, v in training(5).items() if k != key} for key in [*training(5)][:4]},
    **{
        f"{key} is {wrong!r}": training(5) | {key: wrong}
        for key in training(5)
        for wrong in (None, "text", -1, 2.5, True, ("a",))
    },
}


@pytest.mark.parametrize("case", OTHER_STATES)
def test_training_states_of_another_shape_are_skipped(case, tmp_path):
    checkpointer = saved(tmp_path, 4)
    path = checkpointer.save("model_0000005", nn.Linear(3, 1), OTHER_STATES[case])
    with pytest.raises(CheckpointError, match=r"model_0000005\.pth holds no training state that can be used"):
        read_run(path)
    assert checkpointer.last().name == "model_0000004.pth"


OTHER_FILES = {
    "nothing": None,
    "a list": [1, 2],
    "a text": "model",
    "a number": 3,
    "a tensor": torch.ones(2),
    "a list for a model": {"model": [1], "training": training(5)},
    "texts for tensors": {"model": {"weight": "a", "bias": "b"}, "training": training(5)},
    "numbers for names": {"model": {1: torch.ones(2)}, "training": training(5)},
    "weights alone": nn.Linear(3, 1).state_dict(),
}


@pytest.mark.parametrize("case", OTHER_FILES)
def test_files_of_another_shape_end_with_a_sentence(case, tmp_path):
    torch.save(OTHER_FILES[case], tmp_path / "model_0000005.pth")
    with pytest.raises(CheckpointError, match=r"model_0000005\.pth"):
        load_run(tmp_path / "model_0000005.pth", nn.Linear(3, 1))
    with pytest.raises(CheckpointError, match="none that can be gone on from"):
        RunCheckpointer(tmp_path).last()


def test_a_failed_write_leaves_the_last_checkpoint_and_names_it(tmp_path, monkeypatch):
    checkpointer = saved(tmp_path, 1)

    def full_disk(content, file):
        file.write(b"half a checkpoint")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(
        CheckpointError, match=r"model_0000002\.pth could not be written .*No space.*model_0000001\.pth"
    ):
        checkpointer.save("model_0000002", nn.Linear(1, 1), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_0000001.pth"]
    assert checkpointer.last().name == "model_0000001.pth"


def test_a_checkpoint_of_another_model_lists_the_differences(tmp_path):
    path = RunCheckpointer(tmp_path).save("model_final", nn.Linear(3, 2), training(1))
    with pytest.raises(CheckpointError, match=r"of another model than the config describes: 2 of wrong shape \(weight"):
        load_run(path, nn.Linear(4, 5))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(number, tmp_path):
    model = nn.Linear(3, 2)
    nn.init.constant_(model.bias, number)
    path = RunCheckpointer(tmp_path).save("model_final", model, training(1))
    for load in (load_run, load_weights):
        with pytest.raises(CheckpointError, match="bias has values that are not finite"):
            load(path, nn.Linear(3, 2))


def test_unreadable_checkpoints_are_named(tmp_path):
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(CheckpointError, match=r"cut\.pth cannot be read"):
        load_run(tmp_path / "cut.pth", nn.Linear(1, 1))
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"bare\.pth holds weights but no training state"):
        load_run(tmp_path / "bare.pth", nn.Linear(1, 1))
