"""Datasets of a run: refused before anything is built, and labels whose ignored value is no class."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from catseg.config import get_catseg_cfg
from catseg.loader import build_train_loader, check_inputs, training_classes
from catseg.modeling.loss import binary_cross_entropy
from d2host import DatasetCatalog, MetadataCatalog, build_model
from d2host.engine.errors import CheckpointError, ConfigError, DataError
from declip.data.datasets import class_names
from declip.data.reading import LabelFormat

SIZE = 8


@pytest.fixture
def register(tmp_path):
    """Registers a dataset of one image whose labels are given; what it registers is forgotten afterwards."""
    names = []

    def add(labels, **metadata):
        name = f"loader_test_{len(names)}"
        files = tmp_path / f"{name}.png", tmp_path / f"{name}_labels.png"
        Image.new("RGB", (SIZE, SIZE)).save(files[0])
        Image.fromarray(np.resize(labels, (SIZE, SIZE)).astype(np.uint16)).save(files[1])
        record = {"file_name": str(files[0]), "sem_seg_file_name": str(files[1]), "image_id": name}
        DatasetCatalog.register(name, lambda: [record])
        MetadataCatalog.get(name).set(**metadata)
        names.append(name)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def classes(count):
    return [f"class {index}" for index in range(count)]


def config(*names, **more):
    opts = {
        "DATASETS.TRAIN": names,
        "DATASETS.TEST": (),
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 1,
        "INPUT.MIN_SIZE_TRAIN": (SIZE,),
        "INPUT.CROP.SIZE": (SIZE, SIZE + 4),
        "INPUT.RANDOM_FLIP": "none",
        **{f"MODEL.SEM_SEG_HEAD.{key}": value for key, value in more.items()},
    }
    return get_catseg_cfg("declip_catseg_nano.yaml", [str(part) for pair in opts.items() for part in pair])


@pytest.mark.parametrize(
    ("count", "in_files", "in_samples"),
    [(300, 65535, 65535), (300, 65535, -1), (300, 300, 400), (2, 255, 255), (2, 65535, 255), (2, 7, 255), (5, -1, 255)],
)
def test_every_class_is_taught_and_nothing_else(register, count, in_files, in_samples):
    """Whatever stands for no class in files stands for none in samples, the border included."""
    labels = [*range(0, count, max(count // 20, 1)), count - 1, *([in_files] if in_files >= 0 else [])]
    name = register(labels, stuff_classes=classes(count), ignore_label=in_files)
    sample = next(iter(build_train_loader(config(name, IGNORE_VALUE=in_samples))))[0]["sem_seg"]
    taught = np.resize(labels, (SIZE, SIZE)).astype(np.int64)
    expected = np.pad(np.where(taught == in_files, in_samples, taught), [(0, 0), (0, 4)], constant_values=in_samples)
    assert np.array_equal(sample.numpy(), expected)
    logits = torch.zeros(count, *sample.shape, requires_grad=True)
    binary_cross_entropy(logits[None], sample[None], in_samples).backward()
    found = (logits.grad < 0).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    assert found == sorted({label for label in labels if label != in_files} & set(np.unique(taught)))


@pytest.mark.parametrize(("count", "ignore"), [(300, 255), (256, 255), (1, 0), (150, 0), (150, 149)])
def test_an_ignored_label_that_is_a_class_is_refused(register, count, ignore):
    with pytest.raises(DataError, match=rf"ignore_label is {ignore}, but labels 0 to {count - 1} are classes"):
        LabelFormat(count, ignore)
    name = register([0], stuff_classes=classes(count), ignore_label=ignore)
    with pytest.raises(DataError, match=rf"dataset '{name}': ignore_label is {ignore}, but"):
        class_names(name)
    fitting = register([0], stuff_classes=classes(count), ignore_label=65535)
    cfg = config(fitting, IGNORE_VALUE=ignore)
    for refuse in (training_classes, build_train_loader, build_model, lambda cfg: check_inputs(cfg, training=True)):
        with pytest.raises(ConfigError, match=rf"IGNORE_VALUE is {ignore}, which is the class 'class {ignore}'"):
            refuse(cfg)


def test_a_dataset_without_a_word_on_ignored_labels_ignores_255(register):
    with pytest.raises(DataError, match="ignore_label is 255, but labels 0 to 299 are classes"):
        class_names(register([0], stuff_classes=classes(300)))
    assert len(class_names(register([0], stuff_classes=classes(255)))) == 255


@pytest.mark.parametrize("ignore", [None, "255", 255.0, [255]])
def test_an_ignored_label_is_a_number(ignore):
    with pytest.raises(DataError, match="ignore_label is"):
        LabelFormat(2, ignore)


def test_one_text_is_no_class_list(register):
    with pytest.raises(DataError, match="has no list of 'stuff_classes'"):
        class_names(register([0], stuff_classes="cat"))


def test_training_sets_share_classes_and_the_way_labels_are_read(register):
    metadata = [{"stuff_classes": classes(count), "ignore_label": ignore} for count in (2, 3) for ignore in (255, 9)]
    names = [register([0], **each) for each in (*metadata, {**metadata[0], "reduce_zero_label": True})]
    same = register([0], **metadata[0])
    for name, other in itertools.combinations(names, 2):
        with pytest.raises(
            DataError, match=f"'{name}' and '{other}' (have different class lists|differ in ignore_label)"
        ):
            training_classes(config(name, other))
    assert training_classes(config(names[0], same)) == classes(2) and training_classes(config()) == ()


@pytest.mark.parametrize("training", [True, False])
def test_datasets_are_asked_for_before_anything_is_built(register, training, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    good = register([0], stuff_classes=classes(2))
    cases = {
        "DATASETS.T.* names no dataset": ((), ()),
        "dataset 'nowhere' is not registered": ((good,), ("nowhere",)),
        "dataset 'ade20k_150_test_sem_seg' needs .*, which does not exist": ((good,), ("ade20k_150_test_sem_seg",)),
    }
    for sentence, (train, test) in cases.items():
        cfg = config(*train)
        cfg.DATASETS.TEST = test
        with pytest.raises((ConfigError, DataError), match=sentence):
            check_inputs(cfg, training)
    cfg = config("coco_2017_train_stuff_all_sem_seg")
    cfg.DATASETS.TEST = (good,)
    if training:
        with pytest.raises(DataError, match=r"needs .*train2017, which does not exist"):
            check_inputs(cfg, training)
    else:
        check_inputs(cfg, training)


def test_weights_are_asked_for_before_anything_is_built(tmp_path):
    for path in ("gone.pth", str(tmp_path), "x" * 300):
        cfg = config("nano_train")
        cfg.MODEL.WEIGHTS = path
        with pytest.raises(CheckpointError, match=f"checkpoint {path} does not exist: check MODEL.WEIGHTS"):
            check_inputs(cfg, training=False)


def test_evaluating_every_so_often_needs_something_to_evaluate_on(register):
    cfg = config(register([0], stuff_classes=classes(2)))
    check_inputs(cfg, training=True)
    cfg.TEST.EVAL_PERIOD = 7
    with pytest.raises(ConfigError, match=r"TEST\.EVAL_PERIOD is 7, but DATASETS\.TEST names no dataset"):
        check_inputs(cfg, training=True)
