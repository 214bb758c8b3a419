"""From a dataset dict to a training sample of a detector.

Shape legend
    image  3×h×w uint8 RGB        N  objects
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from d2host import BitMasks, Boxes, Instances
from d2host.engine.errors import DataError
from declip.data.detection.annotations import corners, fault_in_record
from declip.data.detection.augmentation import LEAST_SIDE, Window, bounding_box, draw_window
from declip.data.mapper import to_tensor
from declip.data.reading import check_same_size, read_image, read_size

DRAFT = 2  # images are decoded at no less than this many times the side that they are scaled to


@dataclass(frozen=True)
class DetectionMapper:
    """Reads a training image and its objects, by large-scale jitter.

    The image stays as small as it becomes: a model pads it to its square. Crowds are no objects to train on. An object
    that the window cuts has the box of what is left of its mask, where it has one; objects of which nothing is left are
    dropped, so that there may be none.

    Attributes:
        classes: in label order.
        side: S, of the square that an image is to fill.
        scales: range of the longer side's new length, in parts of S.
        flip: whether to mirror, half of the time.
        masks: whether samples have masks.
        novel: labels that nobody may train on.
    """

    classes: Sequence[str]
    side: int
    scales: tuple[float, float] = (0.1, 2.0)
    flip: bool = True
    masks: bool = False
    novel: Collection[int] = ()

    def __call__(self, dataset_dict: dict, rng: np.random.Generator) -> dict:
        """A dataset dict → ``image``, ``instances`` (``gt_boxes``, ``gt_classes``, ``gt_masks``) and the same but for
        its annotations.

        Raises:
            DataError: the image is unreadable or of another size, an object impossible, of a novel class, or without
                the mask that is wanted.
        """
        name = str(dataset_dict["file_name"])
        if fault := fault_in_record(dataset_dict, self.classes, self.novel):
            raise DataError(f"the dataset dict of {name}, {fault}: prepare it again, or correct its annotations")
        stated = dataset_dict["height"], dataset_dict["width"]
        check_same_size(read_size(name), stated, name, f"the dataset dict of {name}")
        window = draw_window(stated, self.side, self.scales, self.flip, rng)
        image = window.image(read_image(name, least_side=DRAFT * min(window.scaled)))
        kept = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        objects = [each for each in dataset_dict["annotations"] if not each.get("iscrowd")]
        return {
            **kept,
            "image": to_tensor(image.transpose(2, 0, 1)),
            "instances": self.instances(objects, window, name),
        }

    def instances(self, objects: Sequence[dict], window: Window, name: str) -> Instances:
        """The objects that are left in a window.

        Raises:
            DataError: one has no mask, and masks are wanted; ``name`` is named.
        """
        found = np.array([corners(each["bbox"], each["bbox_mode"]) for each in objects], np.float64).reshape(-1, 4)
        boxes, cut, masks = window.boxes(found), window.cuts(found), []
        for row, each in enumerate(objects):
            segmentation = each.get("segmentation")
            if self.masks and not segmentation:
                raise DataError(f"an object of {name} has no 'segmentation': train without masks, or give them")
            if segmentation and (self.masks or cut[row]):
                masks.append(window.mask(segmentation))
                boxes[row] = bounding_box(masks[-1]) if cut[row] else boxes[row]
        kept = (boxes[:, 2:] - boxes[:, :2] > LEAST_SIDE).all(axis=1)
        labels = np.array([each["category_id"] for each in objects], np.int64)
        instances = Instances(window.size)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes[kept]).float())
        instances.gt_classes = torch.from_numpy(labels[kept])
        if self.masks:
            stacked = np.stack(masks) if masks else np.zeros((0, *window.size), bool)
            instances.gt_masks = BitMasks(torch.from_numpy(stacked[kept]))
        return instances
