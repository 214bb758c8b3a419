"""26 photographs of COCO as a detection dataset, where they lie beside the checkout.

Boxes and masks are those of the panoptic annotations' segments, of countable things alone.
"""

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from d2host import BoxMode, DatasetCatalog, MetadataCatalog
from declip.data.panoptic import load_panoptic, read_panoptic

NAME = "coco_real_det"
PLACES = [parent / "shared/data/coco_real" for parent in Path(__file__).resolve().parents]


def coco_real_det(novel=()):
    """Register the dataset, once per process; returns its name.

    Its 36 classes are those that occur, in COCO's order.

    Args:
        novel: names of classes that count as novel; all annotations stay, so that it cannot be trained on.
    """
    name = "_".join((NAME, *novel))
    folder = next((place for place in PLACES if place.is_dir()), None)
    if folder is None:
        pytest.skip("the photographs are not here: they belong into shared/data/coco_real beside the checkout")
    content = load_panoptic(folder / "annotations/panoptic_train2017.json")
    categories = things(content)
    if name not in DatasetCatalog.list():
        classes = [category["name"] for category in categories]
        labels = [classes.index(each) for each in novel]
        base = [label for label in range(len(classes)) if label not in labels]
        DatasetCatalog.register(name, lambda: records(folder, content, categories))
        MetadataCatalog.get(name).set(
            thing_classes=classes,
            thing_dataset_id_to_contiguous_id={category["id"]: index for index, category in enumerate(categories)},
            class_groups={"novel": labels, "base": base} if novel else {},
            novel_classes=labels,
            evaluator_type="coco",
        )
    return name


def things(content):
    """The categories of countable things that occur, by id."""
    found = {segment["category_id"] for each in content["annotations"] for segment in each["segments_info"]}
    categories = (each for each in content["categories"] if each["isthing"] and each["id"] in found)
    return sorted(categories, key=lambda category: category["id"])


def records(folder, content, categories):
    """Detectron2's dataset dicts, with compressed masks."""
    labels = {category["id"]: index for index, category in enumerate(categories)}
    images = {image["id"]: image for image in content["images"]}
    dicts = []
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        ids = read_panoptic(folder / "annotations/panoptic_train2017" / annotation["file_name"])
        dicts.append(
            {
                "file_name": str(folder / "train2017" / image["file_name"]),
                "height": image["height"],
                "width": image["width"],
                "image_id": image["id"],
                "annotations": [
                    {
                        "bbox": segment["bbox"],
                        "bbox_mode": BoxMode.XYWH_ABS,
                        "category_id": labels[segment["category_id"]],
                        "segmentation": coco_mask.encode(np.asfortranarray(ids == segment["id"], dtype=np.uint8)),
                        "iscrowd": segment["iscrowd"],
                    }
                    for segment in annotation["segments_info"]
                    if segment["category_id"] in labels
                ],
            }
        )
    return dicts
