"""The evaluator of detection: boxes and masks of a dataset against its objects."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pycocotools import mask as coco_mask

from d2host import DatasetEvaluator, comm
from d2host.engine.errors import DataError
from d2host.engine.tensors import check_finite
from declip.data.detection.datasets import detection_metadata, detection_records, image_ids
from declip.data.records import twice
from declip.evaluation.detection.average_precision import AREAS, average_precision, precision_of_classes
from declip.evaluation.detection.columns import Columns, objects_of
from declip.evaluation.results import finite, write_csv, write_json

Task = Literal["bbox", "segm"]
MOST_OF_CLASS, MOST_OF_IMAGE = 100, 300
"""Detections that count: of an image and class (COCO), of an image (LVIS)."""


class DetectionEvaluator(DatasetEvaluator):
    """Average precision, exact over any number of images and processes.

    ``AP`` is the mean over IoU 0.50 to 0.95, ``AP50`` and ``AP75`` are at one, ``APs``, ``APm``, ``APl`` of small,
    medium and large objects. Groups of classes add ``AP50_novel`` and ``AP_novel``, or on a federated dataset ``APr``.

    On a federated dataset (LVIS) an image says which classes were looked for: detections of others count for nothing,
    and are dropped when they come, so that memory holds a small part of them.

    With an output folder it leaves ``results.json`` there, and a table of all classes for each task, such as
    ``per_class_bbox.csv``.

    Args:
        records: dataset dicts, see :data:`declip.data.detection.datasets.Records`.
        class_names: K names in label order.
        tasks: ``bbox``, ``segm`` or both.
        class_groups: name → labels of a part of the classes.
        federated: whether images say which classes were looked for.
        category_ids: the annotation file's category id → label; None: they are the same.
        output_folder: where files go; None: none.

    Raises:
        DataError: two dataset dicts have one ``image_id``, or a group names a class that is none.
    """

    def __init__(
        self,
        records: Sequence[dict],
        class_names: Sequence[str],
        *,
        tasks: Sequence[Task] = ("bbox",),
        class_groups: Mapping[str, Sequence[int]] | None = None,
        federated: bool = False,
        category_ids: Mapping[int, int] | None = None,
        output_folder: str | Path | None = None,
    ) -> None:
        self.records, self.class_names, self.tasks = records, list(class_names), tuple(tasks)
        self.class_groups, self.federated = dict(class_groups or {}), federated
        self.category_ids = category_ids or {label: label for label in range(len(self.class_names))}
        self.output_folder = Path(output_folder) if output_folder else None
        ids = image_ids(records)
        self._positions = {number: position for position, number in enumerate(ids)}
        if len(self._positions) < len(ids):
            raise DataError(f"two images have image_id {twice(ids)[0]}: give them different ones")
        for group, labels in self.class_groups.items():
            if not all(0 <= label < len(self.class_names) for label in labels):
                raise DataError(f"class group '{group}' names classes beyond the {len(self.class_names)}: correct it")
        self.reset()

    @classmethod
    def of(cls, dataset_name: str, **options) -> "DetectionEvaluator":
        """The evaluator of a registered dataset; ``options`` as of the constructor.

        Raises:
            DataError: the dataset is unknown or incomplete.
        """
        metadata, records = detection_metadata(dataset_name), detection_records(dataset_name)
        options.setdefault("class_groups", metadata.get("class_groups"))
        options.setdefault("federated", metadata.get("evaluator_type") == "lvis")
        options.setdefault("category_ids", metadata.get("thing_dataset_id_to_contiguous_id"))
        return cls(records, metadata.thing_classes, **options)

    def reset(self) -> None:
        """Forget all detections."""
        self._parts: list[Columns] = []
        self._seen: list[int] = []

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Take one batch.

        Args:
            inputs: dataset dicts, of which ``image_id`` is read.
            outputs: per image ``instances`` of N detections in pixels of the image: ``pred_boxes``, ``scores``,
                ``pred_classes``, and for masks ``pred_masks`` N×H×W bool.

        Raises:
            DataError: an image is not of the dataset, or a detection of a class that is none, or masks are missing.
            CheckpointError: scores or boxes are not finite.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            number, found = sample["image_id"], output["instances"]
            name = f"the detections of image {number}"
            check_finite(found.scores, f"the scores of {name}")
            check_finite(found.pred_boxes.tensor, f"the boxes of {name}")
            if "segm" in self.tasks and not found.has("pred_masks"):
                raise DataError(f"{name} have no masks: evaluate boxes alone, or a model with a mask head")
            corners = found.pred_boxes.tensor.double().cpu().numpy()
            boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
            scores, labels = found.scores.double().cpu().numpy(), found.pred_classes.cpu().numpy()
            rows = self.counted(number, scores, labels)
            masks = _encode(found.pred_masks[torch.from_numpy(rows)]) if "segm" in self.tasks else []
            self.add(number, boxes[rows], scores[rows], labels[rows], masks)

    def counted(self, number: int | str, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The detections of an image that count, in their order.

        Args:
            number: its ``image_id``.
            scores, labels: N.

        Raises:
            DataError: the image is not of the dataset, or a label is no class.
        """
        if number not in self._positions:
            raise DataError(f"there are detections of image {number}, which the dataset lacks: give its own images")
        wrong = labels[(labels < 0) | (labels >= len(self.class_names))]
        if wrong.size:
            raise DataError(
                f"the detections of image {number} name class {wrong[0]} of {len(self.class_names)}: their vocabulary "
                "is not the dataset's"
            )
        if not self.federated:
            return np.arange(len(scores))
        best = np.sort(np.argsort(-scores, kind="stable")[:MOST_OF_IMAGE])
        record = self.records[self._positions[number]]
        looked_for = {each["category_id"] for each in record["annotations"]} | self._labels(record, "neg_category_ids")
        return best[np.isin(labels[best], sorted(looked_for))]

    def add(self, number: int | str, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, masks: list) -> None:
        """Take the detections of an image that count.

        Args:
            number: its ``image_id``.
            boxes: N×4, left, top, width, height, pixels.
            scores, labels: N.
            masks: N run-lengths, or none.
        """
        position = self._positions[number]
        where, none = np.full(len(scores), position, np.int32), np.zeros(len(scores))
        self._parts.append(Columns(where, labels.astype(np.int32), scores, none, none.astype(bool), boxes, masks))
        self._seen.append(position)

    def _labels(self, record: dict, key: str) -> set[int]:
        return {self.category_ids[number] for number in record.get(key) or () if number in self.category_ids}

    def evaluate(self) -> OrderedDict | None:
        """``{task: {metric: percent}}`` over all processes; None on processes other than 0.

        Raises:
            DataError: an image was evaluated twice or not at all, or an object has no mask.
        """
        gathered, seen = comm.gather(Columns.cat(self._parts)), comm.gather(self._seen)
        if not comm.is_main_process():
            return None
        seen = [position for part in seen for position in part]
        self._check_seen(seen)
        parts, sizes, lacking = [], [], []
        try:
            for position, record in enumerate(self.records):
                parts.append(objects_of(record, position, "segm" in self.tasks))
                sizes.append((record["height"], record["width"]))
                lacking.append(self._labels(record, "not_exhaustive_category_ids"))
        except KeyError as error:
            raise DataError(f"an object of the dataset has no {error}: evaluate boxes alone") from error
        objects, detections = Columns.cat(parts), Columns.cat(gathered)
        results = OrderedDict()
        for task in self.tasks:
            precision = precision_of_classes(
                objects,
                detections,
                sizes,
                len(self.class_names),
                not_exhaustive=lacking if self.federated else None,
                most_detections=MOST_OF_IMAGE if self.federated else MOST_OF_CLASS,
                masks=task == "segm",
            )
            results[task] = self._summary(precision)
            if self.output_folder:
                self._write(task, precision, objects)
        if self.output_folder:
            write_json(self.output_folder / "results.json", results)
        return results

    def _check_seen(self, seen: list[int]) -> None:
        if repeated := twice(seen):
            number = image_ids(self.records)[repeated[0]]
            raise DataError(f"image {number} was evaluated twice: hand over every image once")
        if len(seen) < len(self.records):
            left = min(set(range(len(self.records))) - set(seen))
            raise DataError(
                f"{len(self.records) - len(seen)} of {len(self.records)} images were not evaluated, among them "
                f"{image_ids(self.records)[left]}: hand over all of them, or give an evaluator of those alone"
            )

    def _summary(self, precision: np.ndarray) -> dict[str, float]:
        whole = {f"AP{area}": average_precision(precision[..., index]) for index, area in enumerate(AREAS)}
        summary = {
            "AP": whole.pop("AP"),
            "AP50": average_precision(precision[0, ..., 0]),
            "AP75": average_precision(precision[5, ..., 0]),
            **whole,
        }
        for group, labels in self.class_groups.items():
            part = precision[:, :, list(labels), 0]
            if self.federated:
                summary[f"AP{group}"] = average_precision(part)
            else:
                summary |= {f"AP50_{group}": average_precision(part[0]), f"AP_{group}": average_precision(part)}
        if not self.federated:
            for label, name in enumerate(self.class_names):
                summary[f"AP50-{name}"] = average_precision(precision[0, :, label, 0])
        return summary

    def _write(self, task: str, precision: np.ndarray, objects: Columns) -> None:
        rows, numbers = [], np.bincount(objects.label[~objects.crowd], minlength=len(self.class_names))
        for label, name in enumerate(self.class_names):
            groups = " ".join(group for group, labels in self.class_groups.items() if label in labels)
            values = (average_precision(precision[at, :, label, 0]) for at in (slice(None), 0))
            rows.append([name, *finite([round(value, 4) for value in values]), int(numbers[label]), groups])
        path = self.output_folder / f"per_class_{task}.csv"
        write_csv(path, ["class", "AP", "AP50", "objects", "groups"], rows)


def _encode(masks: torch.Tensor) -> list[dict]:
    """N×H×W masks as compressed run-lengths."""
    return coco_mask.encode(np.asfortranarray(masks.permute(1, 2, 0).cpu().numpy(), dtype=np.uint8))
