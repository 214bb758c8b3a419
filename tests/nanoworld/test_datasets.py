import json
import multiprocessing

import numpy as np
import pytest
from PIL import Image

from d2host.engine.errors import DataError
from nanoworld.datasets import IGNORE_LABEL, SPLITS, NanoSplit, load_nano
from nanoworld.vocabulary import CLASSES, SEEN_CLASSES, UNSEEN_CLASSES
from nanoworld.world import render_scene

SPLIT = NanoSplit("tiny", seed=9, size=3, classes=SEEN_CLASSES)


def test_files_hold_the_scenes_of_the_split(tmp_path):
    records = load_nano(SPLIT, tmp_path)
    assert len(records) == 3
    for index, record in enumerate(records):
        scene = render_scene(SPLIT.seed, index, SPLIT.things)
        assert (np.asarray(Image.open(record["file_name"])) == scene.image).all()
        labels = np.asarray(Image.open(record["sem_seg_file_name"]))
        assert (labels == scene.class_map(SEEN_CLASSES, IGNORE_LABEL)).all()
        assert record["caption"] and (record["height"], record["width"]) == labels.shape


def test_panoptic_files_agree_with_their_segments(tmp_path):
    for record in load_nano(SPLIT, tmp_path):
        ids = np.asarray(Image.open(record["panoptic_file_name"]))[..., 0]
        assert {segment["id"] for segment in record["segments_info"]} == set(np.unique(ids))
        for segment in record["segments_info"]:
            assert segment["area"] == (ids == segment["id"]).sum()
            assert segment["isthing"] == (" " in CLASSES[segment["category_id"]])


def test_scenes_are_drawn_once(tmp_path):
    first = load_nano(SPLIT, tmp_path)
    stamp = (tmp_path / "nano/tiny/scenes.json").stat().st_mtime_ns
    assert load_nano(SPLIT, tmp_path) == first
    assert (tmp_path / "nano/tiny/scenes.json").stat().st_mtime_ns == stamp


def test_outdated_scenes_are_drawn_again(tmp_path):
    load_nano(SPLIT, tmp_path)
    path = tmp_path / "nano/tiny/scenes.json"
    index = json.loads(path.read_text())
    index["split"]["recipe"] = 0
    path.write_text(json.dumps(index))
    load_nano(SPLIT, tmp_path)
    assert json.loads(path.read_text())["split"]["recipe"] > 0


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b"null", b'{"split": 1}', b'{"split": {}, "scenes": 5}']
)
def test_scenes_are_drawn_again_where_their_index_is_damaged(content, tmp_path):
    records = load_nano(SPLIT, tmp_path)
    (index,) = tmp_path.rglob("scenes.json")
    index.write_bytes(content)
    assert load_nano(SPLIT, tmp_path) == records


def test_several_processes_may_ask_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=load_nano, args=(SPLIT, tmp_path)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0] and len(load_nano(SPLIT, tmp_path)) == 3


def test_training_labels_never_name_unseen_classes():
    for name in ("nano_train", "nano_val"):
        assert not set(SPLITS[name].classes) & set(UNSEEN_CLASSES)
    assert set(SPLITS["nano_val_unseen"].things) >= set(UNSEEN_CLASSES)
    assert len({split.seed for split in SPLITS.values()}) == len(SPLITS)


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written to .*file/nano/tiny .*DETECTRON2_DATASETS"):
        load_nano(SPLIT, tmp_path / "file")
