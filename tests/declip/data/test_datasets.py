import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catseg.config import get_catseg_cfg
from d2host import DatasetCatalog, MetadataCatalog
from d2host.engine.config_file import config_folders
from d2host.engine.errors import ConfigError, DataError
from declip import plugins
from declip.data import mapper as mappers
from declip.data.benchmarks import FOLDER_DATASETS
from declip.data.class_lists import load_class_list
from declip.data.datasets import class_names, dataset_metadata, dataset_records, register_datasets
from declip.data.folder_dataset import UNFINISHED
from declip.data.root import dataset_root

ADE = "ade20k_150_test_sem_seg"


@pytest.fixture
def ade_tree(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    images = tmp_path / "ADEChallengeData2016/images/validation"
    labels = tmp_path / "ADEChallengeData2016/annotations/validation"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for name in ("b", "a"):
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(images / f"{name}.jpg")
        Image.fromarray(np.ones((6, 8), np.uint8)).save(labels / f"{name}.png")
    return tmp_path


def test_a_folder_dataset_pairs_images_with_labels_in_order(ade_tree):
    records = dataset_records(ADE)
    assert [record["image_id"] for record in records] == ["a", "b"]
    assert records[0]["sem_seg_file_name"].endswith("annotations/validation/a.png")


def test_listing_a_folder_dataset_opens_no_file_and_takes_endings_in_any_case(ade_tree):
    folder = ade_tree / "ADEChallengeData2016"
    for file in sorted(folder.rglob("*.*")):
        file.write_bytes(b"nobody reads this")
    (folder / "images/validation/a.jpg").rename(folder / "images/validation/a.JPG")
    assert [record["image_id"] for record in dataset_records(ADE)] == ["a", "b"]


def test_two_files_of_one_stem_are_refused(ade_tree):
    images = ade_tree / "ADEChallengeData2016/images/validation"
    (images / "deep").mkdir()
    shutil.copy(images / "a.jpg", images / "deep/a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg have one stem, so their labels cannot be told apart"):
        dataset_records(ADE)


def test_equal_stems_in_sub_folders_are_paired_by_their_path(ade_tree):
    root = ade_tree / "ADEChallengeData2016"
    for kind, ending in (("images", "jpg"), ("annotations", "png")):
        for town in ("rome", "oslo"):
            (root / kind / "validation" / town).mkdir()
            shutil.copy(root / kind / "validation" / f"a.{ending}", root / kind / "validation" / town / f"a.{ending}")
    records = dataset_records(ADE)
    assert [record["image_id"] for record in records] == ["a", "b", "oslo/a", "rome/a"]
    for record in records:
        assert Path(record["sem_seg_file_name"]).stem == Path(record["file_name"]).stem
        assert Path(record["sem_seg_file_name"]).parent.name == Path(record["file_name"]).parent.name


def test_labels_of_all_sub_folders_may_lie_in_one(ade_tree):
    images = ade_tree / "ADEChallengeData2016/images/validation"
    (images / "rome").mkdir()
    (images / "a.jpg").rename(images / "rome/a.jpg")
    assert [record["image_id"] for record in dataset_records(ADE)] == ["a", "b"]


def test_hidden_copies_of_a_mac_are_no_images(ade_tree):
    images = ade_tree / "ADEChallengeData2016/images/validation"
    (images / "._a.jpg").write_bytes(b"resource fork")
    (images / ".DS_Store").touch()
    assert [record["image_id"] for record in dataset_records(ADE)] == ["a", "b"]


def test_one_stem_in_two_cases_of_its_ending_is_refused(ade_tree):
    images = ade_tree / "ADEChallengeData2016/images/validation"
    shutil.copy(images / "a.jpg", images / "a.JPG")
    with pytest.raises(DataError, match="have one stem"):
        dataset_records(ADE)


def test_metadata_says_how_to_read_and_colour_a_dataset():
    metadata = dataset_metadata(ADE)
    assert len(metadata.stuff_classes) == len(metadata.stuff_colors) == 150
    assert (metadata.ignore_label, metadata.reduce_zero_label, metadata.evaluator_type) == (255, True, "sem_seg")
    assert list(class_names(ADE)) == load_class_list("ade20k_150")


def test_registering_again_changes_nothing():
    before = set(DatasetCatalog.list())
    register_datasets()
    assert set(DatasetCatalog.list()) == before


def test_a_missing_dataset_names_folder_and_preparation(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(DataError, match=f"{tmp_path}/ADE.*does not exist: unpack ADEChallengeData2016"):
        dataset_records(ADE)
    with pytest.raises(DataError, match=r"coco/train2017, which does not exist.*run datasets/prepare_coco_stuff"):
        dataset_records("coco_2017_train_stuff_all_sem_seg")


def test_an_image_without_label_is_named(ade_tree):
    (ade_tree / "ADEChallengeData2016/annotations/validation/b.png").unlink()
    with pytest.raises(DataError, match=r"lacks 1 label files in .*annotations/validation, among them that of b"):
        dataset_records(ADE)


def test_an_empty_image_folder_is_named(ade_tree):
    for file in (ade_tree / "ADEChallengeData2016/images/validation").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"no \.jpg file in"):
        dataset_records(ADE)


def test_an_unknown_dataset_lists_the_known_ones():
    with pytest.raises(DataError, match=r"'ade' is not registered.*nano_val_unseen"):
        class_names("ade")


def test_nano_groups_the_classes_into_seen_and_unseen():
    groups = dataset_metadata("nano_val_unseen").class_groups
    assert (len(groups["seen"]), len(groups["unseen"])) == (42, 12)
    assert not dataset_metadata("nano_val").class_groups


def test_things_are_told_from_stuff_where_the_dataset_says_so():
    for name, things in (
        ("coco_2017_test_stuff_all_sem_seg", ("person", "toothbrush")),
        ("coco_2017_test_object_sem_seg", ("person", "toothbrush")),
        ("cityscapes_19_test_sem_seg", ("person", "bicycle")),
        ("voc_2012_test_background_sem_seg", ("aeroplane", "tvmonitor")),
    ):
        metadata = dataset_metadata(name)
        named = [label for label, thing in zip(metadata.stuff_classes, metadata.is_thing, strict=True) if thing]
        assert (named[0], named[-1]) == things
    assert dataset_metadata(ADE).is_thing is None


def test_every_benchmark_has_an_evaluation_config():
    tested = {
        name
        for folder in config_folders()
        for path in folder.glob("eval_*.yaml")
        for name in get_catseg_cfg(path).DATASETS.TEST
    }
    assert {name for name in FOLDER_DATASETS if "train" not in name} <= tested


@pytest.fixture
def register(tmp_path):
    """Registers a dataset under a name of its own, for the test."""
    names = []

    def add(records, **metadata):
        name = f"own_{len(names)}"
        names.append(name)
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(**{"stuff_classes": ["cat", "sky"], "ignore_label": 255, **metadata})
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def record(tmp_path):
    for name in ("a.jpg", "a.png"):
        Image.new("L", (8, 6)).save(tmp_path / name)
    return {"file_name": str(tmp_path / "a.jpg"), "sem_seg_file_name": str(tmp_path / "a.png"), "image_id": "a"}


ODD_RECORDS = {
    "nothing": None, "a map": {}, "a text": "records", "a number": 5, "an empty list": [], "a list of numbers": [1],
    "a list of null": [None], "an empty dict": [{}],
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_RECORDS)
def test_what_is_no_list_of_dataset_dicts_is_refused(register, kind):
    with pytest.raises(DataError, match="dataset 'own_0'"):
        dataset_records(register(ODD_RECORDS[kind]))


@pytest.mark.parametrize("key", ["file_name", "sem_seg_file_name", "height", "width"])
def test_a_dataset_dict_with_an_odd_value_is_refused_before_the_first_batch(register, record, key):
    assert dataset_records(register([record])) == [record]
    odd = [5, "", [], "a\0b", True] if "file" in key else [0, -1, 1.5, "6", 10**30, True]
    for value in [*odd, *([None, "gone.jpg"] if "file" in key else [])]:
        with pytest.raises(DataError, match=rf"dataset 'own_\d+'.*'{key}'"):
            dataset_records(register([record, {**record, key: value}]))
    if "file" in key:
        with pytest.raises(DataError, match=f"dict 1: '{key}' is missing"):
            dataset_records(register([record, {name: value for name, value in record.items() if name != key}]))


@pytest.mark.parametrize("size", [(3, 4), (12, 16), (8, 6)])
def test_an_image_of_another_size_than_its_dict_says_is_refused(record, size):
    assert mappers.TestMapper(0, 0)({**record, "height": 6, "width": 8})["image"].shape == (3, 6, 8)
    with pytest.raises(DataError, match=r"the dataset dict of .*a\.jpg is \d+x\d+, its image .* is 8x6 upright"):
        mappers.TestMapper(0, 0)({**record, "height": size[0], "width": size[1]})


@pytest.mark.parametrize("classes", ["cat", [], ["cat", "cat"], ["cat", 5], ["cat", ""], {"cat": 0}])
def test_stuff_classes_that_are_no_names_are_refused(register, record, classes):
    with pytest.raises(DataError, match=r"'stuff_classes'"):
        class_names(register([record], stuff_classes=classes))


def test_a_part_of_a_benchmark_is_said_to_be_one(ade_tree, caplog):
    dataset_records(ADE)
    assert "has 2 images instead of 2000 (published)" in caplog.text


def test_a_folder_whose_preparation_did_not_end_is_refused(ade_tree):
    for kind in ("images", "annotations"):
        marker = ade_tree / f"ADEChallengeData2016/{kind}/validation" / UNFINISHED
        marker.touch()
        with pytest.raises(DataError, match=rf"not prepared to its end in .*{kind}/validation: .*, it goes on"):
            dataset_records(ADE)
        marker.unlink()
    assert len(dataset_records(ADE)) == 2


@pytest.mark.parametrize("value", [None, "", "  "])
def test_without_a_data_root_it_is_the_default(monkeypatch, value):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    if value is not None:
        monkeypatch.setenv("DETECTRON2_DATASETS", value)
    assert str(dataset_root()) == "datasets"


def test_a_data_root_may_begin_with_home_and_need_not_exist_but_is_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/data")
    assert dataset_root() == tmp_path / "data"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "file").touch()
    for name in ("loop", "dangling", "file"):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / name))
        with pytest.raises(DataError, match=r"DETECTRON2_DATASETS is '.*', which is no folder"):
            dataset_root()
    monkeypatch.setenv("DETECTRON2_DATASETS", "~nobody-of-that-name/data")
    with pytest.raises(DataError, match="DETECTRON2_DATASETS is '~nobody-of-that-name/data'"):
        dataset_root()


def test_two_plugins_with_datasets_of_one_name_are_refused(monkeypatch):
    one = plugins.PluginDataset(lambda root: [], dict)
    both = tuple(plugins.Plugin(datasets={"streets": one}) for _ in range(2))
    monkeypatch.setattr(plugins, "installed_plugins", lambda: both)
    with pytest.raises(ConfigError, match="two plug-ins add datasets called 'streets'"):
        plugins.from_plugins("datasets")
    monkeypatch.setattr(plugins, "installed_plugins", lambda: (plugins.Plugin(datasets={ADE: one}),))
    with pytest.raises(ConfigError, match=f"a plug-in adds a dataset '{ADE}', which is the name of a benchmark"):
        register_datasets.__wrapped__()
