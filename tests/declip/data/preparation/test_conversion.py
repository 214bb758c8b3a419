"""Folders that cannot be written, preparations that were cut off, odd lists, and what the check finds."""

import os
import resource

import numpy as np
import pytest
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.benchmarks import FOLDER_DATASETS
from declip.data.datasets import dataset_records
from declip.data.folder_dataset import UNFINISHED
from declip.data.preparation.check import check_dataset
from declip.data.preparation.coco import object_table, prepare_coco_object
from declip.data.preparation.conversion import convert_all, look_up, map_files
from declip.data.preparation.pascal import context_names, read_list

OBJECT, COUNT = "coco_2017_test_object_sem_seg", 4


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root with the official tree of COCO-Object, of four images."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for number in range(COUNT):
        save(tmp_path / f"coco/val2017/{number}.jpg", np.zeros((6, 8, 3), np.uint8))
        save(tmp_path / f"coco/stuffthingmaps/val2017/{number}.png", np.full((6, 8), number, np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"../../1\n", b"/etc/passwd\n", b"1\n2\n1\n", b"\xff\xfe1\x00", b"1\x00\n", b"a/b\n"]
)
def test_odd_lists_of_images_are_refused(tmp_path, content):
    (tmp_path / "val.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"list .*val\.txt"):
        read_list(tmp_path / "val.txt", "get it again")


@pytest.mark.parametrize(
    "content", [b"", b"no value", b"1: a\n1: b", b"1: a\n2: a", b"99999: a", b"9999999999999: a\n1: b", b"\xff: a"]
)
def test_odd_lists_of_names_are_refused(tmp_path, content):
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.txt"):
        context_names(tmp_path / "labels.txt")


@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16, np.int32])
def test_labels_of_any_whole_type_go_through_a_table_and_others_are_refused(tmp_path, kind):
    ones = np.ones((2, 2), kind)
    assert (look_up(ones, object_table(), tmp_path) == 2).all()
    for odd in (ones.astype(np.float32), ones[None], np.full((2, 2), -1), np.full((2, 2), 300)):
        with pytest.raises(DataError, match="label file"):
            look_up(odd, object_table(), tmp_path)


def test_two_sources_of_one_target_are_refused(tmp_path):
    pairs = [(tmp_path / name / "1.png", tmp_path / "out/1.png") for name in ("a", "b")]
    with pytest.raises(DataError, match=r"a/1\.png and .*b/1\.png would both become .*out/1\.png"):
        convert_all(pairs, print, 1, "title")


def test_a_folder_says_that_it_is_unfinished_until_it_is_whole(root):
    for _ in range(2):  # stopped again and again
        bad = root / "coco/stuffthingmaps/val2017/2.png"
        content = bad.read_bytes()
        bad.write_bytes(b"damaged")
        with pytest.raises(DataError, match=r"2\.png cannot be read"):
            prepare_coco_object(root, 1)
        made = sorted(path.name for path in (root / "coco/annotations_object/val2017").glob("*.png"))
        assert made == ["0.png", "1.png"]
        with pytest.raises(DataError, match="is not prepared to its end"):
            dataset_records(OBJECT)
        assert "is not prepared to its end" in check_dataset(OBJECT, FOLDER_DATASETS[OBJECT]).troubles[0]
        bad.write_bytes(content)
    assert prepare_coco_object(root, 1) == {"coco/annotations_object/val2017": 2}
    assert len(dataset_records(OBJECT)) == COUNT


def test_a_preparation_that_ended_before_it_could_say_so_says_so_when_run_again(root):
    prepare_coco_object(root, 1)
    (root / "coco/annotations_object/val2017" / UNFINISHED).touch()
    assert prepare_coco_object(root, 1) == {"coco/annotations_object/val2017": 0}
    assert len(dataset_records(OBJECT)) == COUNT


def test_empty_files_that_a_failing_disk_leaves_are_made_again(root):
    prepare_coco_object(root, 1)
    (root / "coco/annotations_object/val2017/1.png").write_bytes(b"")
    assert prepare_coco_object(root, 1) == {"coco/annotations_object/val2017": 1}


@pytest.mark.parametrize("target", ["coco/annotations_object", "coco/annotations_object/val2017"])
@pytest.mark.parametrize("kind", ["file", "dangling link", "loop", "full"])
def test_a_target_that_cannot_be_written_is_one_sentence(root, target, kind):
    path = root / target
    path.parent.mkdir(exist_ok=True)
    if kind == "file":
        path.touch()
    elif kind == "full":
        path.symlink_to("/proc")
    else:
        path.symlink_to(path if kind == "loop" else root / "gone")
    with pytest.raises(DataError, match=r"cannot be written .*free disk space, or make its folder writable"):
        prepare_coco_object(root, 1)


def test_a_folder_in_the_place_of_a_file_is_one_sentence(root):
    (root / "coco/annotations_object/val2017/1.png").mkdir(parents=True)
    with pytest.raises(DataError, match=r"1\.png cannot be written"):
        prepare_coco_object(root, 1)
    assert list((root / "coco/annotations_object/val2017").glob(".*part*")) == []


@pytest.fixture
def full_disk():
    """No file can grow above a limit, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_half_way_leaves_nothing_that_looks_whole_and_the_next_run_goes_on(root, full_disk):
    noise = np.random.default_rng(0).integers(0, 10, (300, 400)).astype(np.uint8)
    save(root / "coco/stuffthingmaps/val2017/2.png", noise)
    save(root / "coco/val2017/2.jpg", np.zeros((300, 400, 3), np.uint8))
    full_disk(4000)
    with pytest.raises(DataError, match=r"2\.png cannot be written"):
        prepare_coco_object(root, 1)
    full_disk(2**30)
    with pytest.raises(DataError, match="is not prepared to its end"):
        dataset_records(OBJECT)
    assert not list(root.rglob("*.part*"))
    assert prepare_coco_object(root, 1) == {"coco/annotations_object/val2017": 2}
    assert check_dataset(OBJECT, FOLDER_DATASETS[OBJECT]).faults[1:] == ()


def end(number):
    if number == 3:
        os._exit(9)


def test_a_worker_that_is_killed_is_one_sentence():
    with pytest.raises(DataError, match=r"title: a worker was killed, .*fewer --workers"):
        map_files(end, [(number,) for number in range(6)], 2, "title")


def test_the_check_reports_every_fault_by_kind(root):
    prepare_coco_object(root, 1)
    folder = root / "coco/annotations_object/val2017"
    (root / "coco/val2017/0.jpg").unlink()
    (folder / "1.png").unlink()
    save(folder / "2.png", np.zeros((3, 4), np.uint8))
    save(folder / "3.png", np.full((6, 8), 99, np.uint8))
    save(root / "coco/val2017/4.jpg", np.zeros((6, 8, 3), np.uint8))
    save(folder / "4.png", np.zeros((6, 8), np.uint8))
    (root / "coco/val2017/4.jpg").write_bytes(b"no image")
    check = check_dataset(OBJECT, FOLDER_DATASETS[OBJECT])
    kinds = {fault.kind: fault.sentence for fault in check.faults}
    assert set(kinds) == {
        "number of images", "image without label", "label without image", "label of another size",
        "unreadable or impossible label", "unreadable image",
    }  # fmt: skip
    assert "1.jpg has no label" in kinds["image without label"]
    assert "0.png has no image" in kinds["label without image"]


def test_a_turned_photo_is_compared_upright_by_its_header_too(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 8)).save(root / "coco/val2017/1.jpg", exif=exif)
    prepare_coco_object(root, 1)
    for decode in (True, False):
        assert len(check_dataset(OBJECT, FOLDER_DATASETS[OBJECT], decode=decode).faults) == 1
