"""The datasets of the papers: where their files lie under the data root, and how many there should be.

Names are the community's, so that published commands carry over.
"""

from declip.data.folder_dataset import FolderDataset

_ADE = "unpack ADEChallengeData2016.zip there (datasets/prepare_ade20k_150.py)"
_ADE_FULL = "run datasets/prepare_ade20k_847.py"
_COCO = "unpack the COCO 2017 images there and run datasets/prepare_coco_stuff.py"
_COCO_OBJECT = "unpack the COCO 2017 images there and run datasets/prepare_coco_object.py"
_VOC = "run datasets/prepare_voc.py"
_CONTEXT = "run datasets/prepare_pascal_context.py"
_CITYSCAPES = "run datasets/prepare_cityscapes.py"

WIDE_IGNORE = 65535  # of 16-bit label files
_CONTEXT_COUNTS = (("the official list", 5105), ("the list of CAT-Seg", 5104))


def _ade(split: str, count: int) -> FolderDataset:
    root = "ADEChallengeData2016"
    folders = (f"{root}/images/{split}", f"{root}/annotations/{split}")
    return FolderDataset(*folders, "ade20k_150", _ADE, count, reduce_zero_label=True)


def _coco(split: str, count: int) -> FolderDataset:
    folders = (f"coco/{split}2017", f"coco/stuffthingmaps_detectron2/{split}2017")
    return FolderDataset(*folders, "coco_stuff_171", _COCO, count, things=range(80))


def _voc(labels: str, classes: str, vocabulary: str = "") -> FolderDataset:
    folders = ("VOCdevkit/VOC2012/JPEGImages", f"VOCdevkit/VOC2012/{labels}/val")
    things = range(20)
    return FolderDataset(*folders, classes, _VOC, 1449, labelled_only=True, vocabulary=vocabulary, things=things)


def _context(labels: str, classes: str, **options) -> FolderDataset:
    folders = ("VOCdevkit/VOC2010/JPEGImages", f"VOCdevkit/VOC2010/annotations_detectron2/{labels}")
    return FolderDataset(*folders, classes, _CONTEXT, 5104, labelled_only=True, also=_CONTEXT_COUNTS, **options)


FOLDER_DATASETS = {
    "ade20k_150_train_sem_seg": _ade("training", 20210),
    "ade20k_150_test_sem_seg": _ade("validation", 2000),
    "ade20k_full_sem_seg_freq_val_all": FolderDataset(
        "ADE20K_2021_17_01/images_detectron2/validation",
        "ADE20K_2021_17_01/annotations_detectron2/validation",
        "ade20k_847",
        _ADE_FULL,
        2000,
        label_suffix=".tif",
        ignore_label=WIDE_IGNORE,
    ),
    "coco_2017_train_stuff_all_sem_seg": _coco("train", 118287),
    "coco_2017_test_stuff_all_sem_seg": _coco("val", 5000),
    "coco_2017_test_object_sem_seg": FolderDataset(
        "coco/val2017",
        "coco/annotations_object/val2017",
        "coco_object_81",
        _COCO_OBJECT,
        5000,
        things=range(1, 81),
    ),
    "context_459_test_sem_seg": _context(
        "pc459_val", "pascal_context_459", label_suffix=".tif", ignore_label=WIDE_IGNORE
    ),
    "context_59_test_sem_seg": _context("pc59_val", "pascal_context_59"),
    "context_60_test_sem_seg": _context("pc60_val", "pascal_context_60"),
    "voc_2012_test_sem_seg": _voc("annotations_detectron2", "voc_20"),
    "voc_2012_test_background_sem_seg": _voc("annotations_detectron2_bg", "voc_21", "voc_20_background_59"),
    "cityscapes_19_test_sem_seg": FolderDataset(
        "cityscapes/leftImg8bit/val",
        "cityscapes/annotations_detectron2/val",
        "cityscapes_19",
        _CITYSCAPES,
        500,
        image_suffix=".png",
        things=range(11, 19),
    ),
}
