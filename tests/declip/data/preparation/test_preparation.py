"""Miniature trees in the official layouts: preparation → registration → loader → evaluator → check."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.config import get_catseg_cfg
from d2host import build_model
from d2host.engine.errors import DataError
from declip.data.benchmarks import FOLDER_DATASETS
from declip.data.class_lists import load_class_list
from declip.data.datasets import dataset_metadata, dataset_records
from declip.data.loader import build_test_loader
from declip.data.preparation.ade20k import object_names, prepare_ade20k_150, prepare_ade20k_847
from declip.data.preparation.check import check_dataset, report
from declip.data.preparation.cityscapes import prepare_cityscapes
from declip.data.preparation.coco import object_table, prepare_coco_object, prepare_coco_stuff, stuff_table
from declip.data.preparation.pascal import prepare_context, prepare_voc
from declip.data.reading import LabelFormat
from declip.evaluation import evaluate_datasets
from declip.evaluation.sem_seg_evaluator import SemSegEvaluator

SIZE = (6, 8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def image(path):
    save(path, np.full((*SIZE, 3), 90, np.uint8))


def labels(*values):
    """A label map whose rows hold the given values in turn."""
    rows = np.array([values[row % len(values)] for row in range(SIZE[0])])
    return np.repeat(rows[:, None], SIZE[1], axis=1)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


def make_coco(root):
    for split in ("train2017", "val2017"):
        for name in ("000001", "000002"):
            image(root / f"coco/{split}/{name}.jpg")
            save(root / f"coco/stuffthingmaps/{split}/{name}.png", labels(0, 89, 91, 181, 255).astype(np.uint8))


def make_voc(root):
    for name in ("2007_000033", "2007_000042"):
        image(root / f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg")
        palette = Image.fromarray(labels(0, 1, 20, 255).astype(np.uint8), mode="L").convert("P")
        path = root / f"VOCdevkit/VOC2012/SegmentationClass/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        palette.putdata(labels(0, 1, 20, 255).flatten().tolist())
        palette.save(path)
    image(root / "VOCdevkit/VOC2012/JPEGImages/2008_000001.jpg")  # not of the validation set
    listing = root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("2007_000033\n2007_000042\n")


def make_context(root):
    folder = root / "VOCdevkit/VOC2010"
    names = load_class_list("pascal_context_459")
    (folder / "trainval").mkdir(parents=True)
    (folder / "labels.txt").write_text("\n".join(f"{value}: {name}" for value, name in enumerate(names, start=1)))
    (folder / "pascalcontext_val.txt").write_text("2008_000002\n")
    image(folder / "JPEGImages/2008_000002.jpg")
    values = [names.index(name) + 1 for name in ("accordion", "aeroplane", "wood")]
    savemat(folder / "trainval/2008_000002.mat", {"LabelMap": labels(*values, 459).astype(np.uint16)})


def make_cityscapes(root):
    image(root / "cityscapes/leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png")
    path = root / "cityscapes/gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png"
    save(path, labels(0, 7, 33, 4).astype(np.uint8))


def make_ade_full(root):
    folder = root / "ADE20K_2021_17_01"
    names = ["-", "door handle", *load_class_list("ade20k_847")]
    folder.mkdir()
    (folder / "index_ade20k.pkl").write_bytes(pickle.dumps({"objectnames": names, "counts": np.zeros(3)}))
    values = labels(0, 1, 3, 849)  # nothing, a dropped name, the first and the last class
    seg = np.stack([values // 256 * 10, values % 256, values * 0], axis=-1).astype(np.uint8)
    save(folder / "images/ADE/validation/urban/street/ADE_val_00000001_seg.png", seg)
    image(folder / "images/ADE/validation/urban/street/ADE_val_00000001.jpg")


def make_ade_150(root):
    archive = root / "source"
    image(archive / "ADEChallengeData2016/images/validation/ADE_val_00000001.jpg")
    save(
        archive / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png", labels(0, 1, 150).astype(np.uint8)
    )
    with zipfile.ZipFile(root / "ADEChallengeData2016.zip", "w") as content:
        for file in sorted(archive.rglob("*.*")):
            content.write(file, file.relative_to(archive))


CASES = {
    "coco_2017_train_stuff_all_sem_seg": (make_coco, prepare_coco_stuff, [0, 79, 80, 170, 255]),
    "coco_2017_test_stuff_all_sem_seg": (make_coco, prepare_coco_stuff, [0, 79, 80, 170, 255]),
    "coco_2017_test_object_sem_seg": (make_coco, prepare_coco_object, [1, 80, 0, 0, 0]),
    "voc_2012_test_sem_seg": (make_voc, prepare_voc, [255, 0, 19, 255]),
    "voc_2012_test_background_sem_seg": (make_voc, prepare_voc, [20, 0, 19, 255]),
    "context_459_test_sem_seg": (make_context, prepare_context, [0, 1, 457, 458]),
    "context_59_test_sem_seg": (make_context, prepare_context, [255, 0, 58, 255]),
    "context_60_test_sem_seg": (make_context, prepare_context, [0, 1, 59, 0]),
    "cityscapes_19_test_sem_seg": (make_cityscapes, prepare_cityscapes, [255, 0, 18, 255]),
    "ade20k_150_test_sem_seg": (make_ade_150, prepare_ade20k_150, [255, 0, 149]),
    "ade20k_full_sem_seg_freq_val_all": (make_ade_full, prepare_ade20k_847, [65535, 65535, 0, 846]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_benchmark_goes_from_its_official_tree_to_exact_metrics(name, root):
    make, prepare, expected = CASES[name]
    make(root)
    assert sum(prepare(root, 1).values()) > 0
    records = dataset_records(name)
    sem_seg = LabelFormat.of(dataset_metadata(name)).read(records[0]["sem_seg_file_name"])
    assert (sem_seg == labels(*expected)).all()
    cfg = get_catseg_cfg("", ["DATALOADER.NUM_WORKERS", "0", "INPUT.MIN_SIZE_TEST", "6"])
    assert all(batch[0]["image"].shape == (3, *SIZE) for batch in build_test_loader(cfg, name))
    evaluator = SemSegEvaluator.of(name)
    for record in records:
        evaluator.process([record], [{"sem_seg": torch_labels(sem_seg, evaluator.labels.ignore_label)}])
    metrics = evaluator.evaluate()["sem_seg"]
    assert metrics["mIoU"] == metrics["pACC"] == 100


def torch_labels(sem_seg, ignore_label):
    return torch.from_numpy(np.where(sem_seg == ignore_label, 0, sem_seg))


@pytest.mark.parametrize("name", CASES)
def test_preparing_again_makes_nothing(name, root):
    make, prepare, _ = CASES[name]
    make(root)
    prepare(root, 1)
    assert sum(prepare(root, 1).values()) == 0


def test_preparation_in_several_processes_gives_the_same(root):
    make_coco(root)
    assert prepare_coco_stuff(root, 2) == {
        f"coco/stuffthingmaps_detectron2/{split}": 2 for split in ("train2017", "val2017")
    }
    assert len(dataset_records("coco_2017_test_stuff_all_sem_seg")) == 2


def test_names_that_stand_for_background_count_as_background(root):
    make_voc(root)
    prepare_voc(root, 1)
    name = "voc_2012_test_background_sem_seg"
    assert len(dataset_metadata(name).vocabulary) == 59
    evaluator, record = SemSegEvaluator.of(name), dataset_records(name)[0]
    prediction = labels(47, 0, 19, 58)  # any name from 20 on where the label says background; borders are ignored
    evaluator.process([record], [{"sem_seg": torch_labels(prediction, -1)}])
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == 100


def test_the_tables_of_coco_keep_every_class_once():
    assert sorted(set(stuff_table()[:182]) - {-1}) == list(range(171))
    assert sorted(set(object_table()[:91]) - {-1}) == list(range(1, 81))


def test_a_value_outside_the_list_names_the_file(root):
    make_coco(root)
    path = root / "coco/stuffthingmaps/val2017/000001.png"
    save(path, labels(11).astype(np.uint8))
    with pytest.raises(DataError, match=r"000001\.png holds 11, which is no label of this dataset"):
        prepare_coco_object(root, 1)


def test_a_half_downloaded_tree_says_what_to_unpack(root):
    with pytest.raises(DataError, match="does not exist: unpack stuffthingmaps_trainval2017"):
        prepare_coco_stuff(root, 1)
    with pytest.raises(DataError, match="does not exist: unpack VOCtrainval_11-May-2012"):
        prepare_voc(root, 1)
    make_voc(root)
    (root / "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png").unlink()
    with pytest.raises(DataError, match=r"2007_000042\.png does not exist"):
        prepare_voc(root, 1)


def test_an_interrupted_preparation_goes_on(root):
    make_coco(root)
    prepare_coco_object(root, 1)
    (root / "coco/annotations_object/val2017/000002.png").unlink()
    assert prepare_coco_object(root, 1) == {"coco/annotations_object/val2017": 1}


class Harmful:
    """A pickle that would run something."""

    def __reduce__(self):
        return print, ("run",)


def test_an_index_that_holds_code_is_refused(tmp_path):
    path = tmp_path / "index_ade20k.pkl"
    path.write_bytes(pickle.dumps({"objectnames": Harmful()}))
    with pytest.raises(DataError, match=r"is no index of ADE20K \(it asks for builtins\.print"):
        object_names(path)


def test_large_images_of_the_full_dataset_shrink_with_their_labels(root):
    make_ade_full(root)
    folder = root / "ADE20K_2021_17_01/images/ADE/validation/urban/street"
    save(folder / "ADE_val_00000001.jpg", np.zeros((600, 900, 3), np.uint8))
    save(folder / "ADE_val_00000001_seg.png", np.zeros((600, 900, 3), np.uint8))
    prepare_ade20k_847(root, 1)
    record = dataset_records("ade20k_full_sem_seg_freq_val_all")[0]
    assert Image.open(record["file_name"]).size == Image.open(record["sem_seg_file_name"]).size == (768, 512)


def test_a_check_counts_pairs_and_opens_every_file(root):
    make_coco(root)
    prepare_coco_object(root, 1)
    name = "coco_2017_test_object_sem_seg"
    dataset = FOLDER_DATASETS[name]
    check = check_dataset(name, dataset)
    assert check.num_images == 2 and len(check.troubles) == 1
    assert "2 images instead of 5000 (published)" in check.troubles[0]
    (root / "coco/val2017/000001.jpg").write_bytes(b"broken")
    save(root / "coco/annotations_object/val2017/000002.png", np.zeros((3, 3), np.uint8))
    troubles = check_dataset(name, dataset).troubles[1:]
    assert (
        "000001.jpg cannot be read" in troubles[0]
        and "is 3x3, its image" in troubles[1]
        and "is 8x6 upright" in troubles[1]
    )
    assert len(check_dataset(name, dataset, quick=True).troubles) == 1
    assert "| coco_2017_test_object_sem_seg |" in report([check])


def test_a_check_reports_a_label_outside_the_list_and_a_missing_label(root):
    make_coco(root)
    prepare_coco_object(root, 1)
    name = "coco_2017_test_object_sem_seg"
    save(root / "coco/annotations_object/val2017/000001.png", labels(99).astype(np.uint8))
    assert "has label 99, but the dataset has 81 classes" in check_dataset(name, FOLDER_DATASETS[name]).troubles[1]
    (root / "coco/annotations_object/val2017/000001.png").unlink()
    assert "000001.jpg has no label" in check_dataset(name, FOLDER_DATASETS[name]).troubles[1]


def test_one_run_evaluates_the_six_benchmarks_with_one_model(root):
    for make, prepare, _ in {CASES[name][0].__name__: CASES[name] for name in CASES}.values():
        make(root)
        prepare(root, 1)
    prepare_coco_stuff(root, 1)
    options = ["MODEL.ENCODER.NAME", "nano", "MODEL.ENCODER.GRID", "4", "MODEL.DEVICE", "cpu"]
    options += ["MODEL.ENCODER.WEIGHTS", "random"]
    options += ["MODEL.SEM_SEG_HEAD.HIDDEN_DIM", "16", "MODEL.SEM_SEG_HEAD.WINDOW_SIZE", "2", "TEST.VISUALIZE", "1"]
    options += ["MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_PROJECTED_DIMS", "(8, 4)"]
    options += ["TEST.SLIDING_WINDOW.ENABLED", "False", "OUTPUT_DIR", str(root / "out"), "DATALOADER.NUM_WORKERS", "0"]
    cfg = get_catseg_cfg("eval_all.yaml", [*options, "INPUT.MIN_SIZE_TEST", "32", "MODEL.ENCODER.WEIGHTS", "random"])
    results = evaluate_datasets(cfg, build_model(cfg).eval())
    assert list(results) == list(cfg.DATASETS.TEST) and len(results) == 6
    table = (root / "out/inference/results.md").read_text()
    assert table.count("_sem_seg") == 6 and "published" not in table
    assert len((root / "out/inference/results.csv").read_text().splitlines()) == 7
