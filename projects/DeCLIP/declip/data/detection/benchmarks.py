"""The detection benchmarks: where their records lie under the data root, and how many images there should be.

Source of the splits: Bansal et al. 2018 (COCO, 48 base and 17 novel classes); Gu et al. 2022, ViLD (LVIS, whose rare
classes are novel).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from declip.data.class_lists import load_class_list

COCO_IDS = tuple(number for number in range(1, 91) if number not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""The category ids of COCO's 80 classes."""


@dataclass(frozen=True)
class DetectionDataset:
    """A detection dataset that a preparation script makes of a JSON file of annotations.

    Attributes:
        records: the file that is made, below the data root.
        source: the JSON file, below the data root.
        images: the folder that its images' names start from, below the data root; several: by the JSON file's own
            sub-folder (LVIS).
        classes: name of the class list.
        prepare: what to do where the file is missing.
        num_images: how many there are, as published; 0: not checked.
        groups: of the classes, name → name of a class list; classes in none of them are ``base``.
        novel: name of the group whose classes nobody may train on; empty: there is none.
        training: whether it is to train on, so that novel classes and images without objects do not belong there.
        keep_empty: whether images without an object of the classes belong to it.
        federated: whether an image says which classes were looked for (LVIS).
    """

    records: str
    source: str
    images: str
    classes: str
    prepare: str
    num_images: int = 0
    groups: Mapping[str, str] = field(default_factory=dict)
    novel: str = ""
    training: bool = False
    keep_empty: bool = False
    federated: bool = False

    def class_groups(self) -> dict[str, list[int]]:
        """Name → indices of classes.

        >>> groups = DETECTION_DATASETS["ov_coco_val"].class_groups()
        >>> {name: len(indices) for name, indices in groups.items()}
        {'novel': 17, 'base': 48}
        """
        names = load_class_list(self.classes)
        members = {group: set(load_class_list(listed)) for group, listed in self.groups.items()}
        groups = {group: [index for index, name in enumerate(names) if name in of] for group, of in members.items()}
        base = [index for index, name in enumerate(names) if not any(name in of for of in members.values())]
        return {**groups, "base": base} if groups and base else groups

    def category_ids(self) -> list[int]:
        """The benchmark's category ids, in label order."""
        names = load_class_list(self.classes)
        if "coco" not in self.classes:
            return list(range(1, len(names) + 1))
        of_coco = dict(zip(load_class_list("coco_80"), COCO_IDS, strict=True))
        return [of_coco[name] for name in names]


def _ov_coco(split: str, count: int, training: bool) -> DetectionDataset:
    return DetectionDataset(
        f"coco/annotations/ov_coco_{split}.records",
        f"coco/annotations/instances_{split}2017.json",
        f"coco/{split}2017",
        "ov_coco_65",
        "put COCO's instances_{train,val}2017.json into coco/annotations and run datasets/prepare_ov_coco.py",
        count,
        groups={"novel": "ov_coco_novel_17"},
        novel="novel",
        training=training,
    )


def _ov_lvis(split: str, count: int, training: bool) -> DetectionDataset:
    return DetectionDataset(
        f"lvis/ov_lvis_{split}.records",
        f"lvis/lvis_v1_{split}.json",
        "coco",
        "lvis_v1_1203",
        "put lvis_v1_{train,val}.json into lvis and run datasets/prepare_ov_lvis.py",
        count,
        groups={"r": "lvis_v1_rare_337", "c": "lvis_v1_common_461", "f": "lvis_v1_frequent_405"},
        novel="r",
        training=training,
        keep_empty=True,
        federated=True,
    )


DETECTION_DATASETS = {
    "ov_coco_train": _ov_coco("train", 107_761, training=True),
    "ov_coco_val": _ov_coco("val", 4836, training=False),
    "ov_lvis_train": _ov_lvis("train", 100_170, training=True),
    "ov_lvis_val": _ov_lvis("val", 19_809, training=False),
    "coco_80_val": DetectionDataset(
        "coco/annotations/coco_80_val.records",
        "coco/annotations/instances_val2017.json",
        "coco/val2017",
        "coco_80",
        "put COCO's instances_val2017.json into coco/annotations and run datasets/prepare_ov_coco.py",
        5000,
        keep_empty=True,
    ),
    "objects365_v1_val": DetectionDataset(
        "objects365/objects365_v1_val.records",
        "objects365/annotations/objects365_val.json",
        "objects365/val",
        "objects365_v1_365",
        "put objects365_val.json (v1) into objects365/annotations and run datasets/prepare_objects365.py",
        keep_empty=True,
    ),
}
