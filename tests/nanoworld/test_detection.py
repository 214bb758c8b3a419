import pytest

from declip.data.detection.annotations import fault_in_record
from nanoworld.datasets import NanoSplit
from nanoworld.detection import NOVEL, SCENES, TRAINING, facts, load_objects
from nanoworld.vocabulary import CLASSES, THINGS, UNSEEN_CLASSES


@pytest.fixture
def few(monkeypatch):
    """Both kinds of scenes, of one small series."""
    for name in (TRAINING, "nano_det_val"):
        monkeypatch.setitem(SCENES, name, NanoSplit("few", seed=9, size=6, classes=CLASSES))


def test_novel_things_are_in_the_scenes_to_train_on_but_not_in_their_labels(few, tmp_path):
    training, evaluation = (load_objects(name, tmp_path) for name in (TRAINING, "nano_det_val"))
    labels = [
        {each["category_id"] for record in records for each in record["annotations"]}
        for records in (training, evaluation)
    ]
    assert not labels[0] & {*NOVEL} and labels[1] & {*NOVEL} and labels[1] - {*NOVEL} == labels[0]
    assert [record["file_name"] for record in training] == [record["file_name"] for record in evaluation]


def test_records_are_what_detectors_learn_from(few, tmp_path):
    classes = facts()["thing_classes"]
    assert not any(fault_in_record(record, classes, NOVEL) for record in load_objects(TRAINING, tmp_path))


def test_a_quarter_of_the_things_is_novel():
    groups = facts()["class_groups"]
    assert [THINGS[label] for label in groups["novel"]] == list(UNSEEN_CLASSES)
    assert sorted(groups["novel"] + groups["base"]) == list(range(len(THINGS)))
