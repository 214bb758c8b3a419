"""Dataset dicts in a file: a line of JSON each, and at the end an index, so that only lines asked for are read.

A process that trains holds the index, some dozen bytes per image, whatever the annotations take (LVIS: a gigabyte);
workers and processes share what the system keeps of the file in memory.

The last line is the position of the index, in 20 digits::

    {"image_id": 9, "file_name": "coco/train2017/000000000009.jpg", "height": 480, "width": 640, "annotations": [...]}
    ...
    {"classes": [...], "image_ids": [9, ...], "file_names": [...], "bytes": [...], "objects": [...], ...}
    00000000000123456789
"""

import copy
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d2host.engine.errors import DataError
from declip.data.records import Rule, fault_in

_LIST = Rule("a list", lambda value: isinstance(value, list))
_INDEX = dict.fromkeys(("classes", "image_ids", "file_names", "bytes", "objects", "objects_per_class"), _LIST)
_TAIL = 21  # bytes of the last line


class RecordFile(Sequence[dict]):
    """Dataset dicts as Detectron2 has them, read when they are asked for; a slice is the same of a part.

    Args:
        path: of the file.
        root: folder that the images' names start from.
        remedy: what to do where the file cannot be used.

    Attributes:
        classes: in label order.
        image_ids, file_names: of each image, the latter below the root.
        num_objects: of each image, crowds not counted.
        objects_per_class: of each class, over all images, crowds counted, too.

    Raises:
        DataError: the file is missing, not whole, or none of these.
    """

    def __init__(self, path: str | Path, root: str | Path = "", remedy: str = "prepare it again") -> None:
        self.path, self.root, self.remedy = Path(path), Path(root), remedy
        try:
            with open(path, "rb") as file:
                file.seek(-_TAIL, 2)
                start = int(file.read())
                file.seek(start)
                index = json.loads(file.readline())
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist: {remedy}") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is no whole file of detection records ({error}): {remedy}") from error
        if fault := fault_in(index, _INDEX):
            raise DataError(f"{path} is no file of detection records ({fault}): {remedy}")
        self.classes, self.objects_per_class = index["classes"], index["objects_per_class"]
        self.image_ids, self.file_names = index["image_ids"], index["file_names"]
        self.num_objects = np.array(index["objects"], np.int32)
        sizes = np.array(index["bytes"], np.int64)
        self._ends = sizes.cumsum()
        self._starts = self._ends - sizes
        lengths = {len(column) for column in (self.image_ids, self.file_names, self.num_objects, sizes)}
        if len(lengths) > 1 or sizes.sum() != start:
            raise DataError(f"{path} has an index of another file: {remedy}")

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, item: int | slice) -> Any:
        """A dataset dict, or the records of a slice.

        Raises:
            DataError: the file has changed since its index was read.
        """
        if isinstance(item, slice):
            return self.subset(range(len(self))[item])
        start, end = self._starts[item], self._ends[item]
        try:
            with open(self.path, "rb") as file:
                file.seek(start)
                record = json.loads(file.read(end - start))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be read any more ({error}): {self.remedy}") from error
        return {**record, "file_name": str(self.root / record["file_name"])}

    def __iter__(self) -> Iterator[dict]:
        return (self[index] for index in range(len(self)))

    def subset(self, indices: Sequence[int]) -> "RecordFile":
        """The images at some positions; nothing is read."""
        part = copy.copy(self)
        part.image_ids = [self.image_ids[index] for index in indices]
        part.file_names = [self.file_names[index] for index in indices]
        chosen = np.asarray(indices, np.int64)
        part.num_objects, part._starts, part._ends = (
            column[chosen] for column in (self.num_objects, self._starts, self._ends)
        )
        return part


def write_records(path: Path, classes: Sequence[str], records: Iterable[dict]) -> int:
    """Write dataset dicts, whose image names start from the data root; returns how many.

    >>> from tempfile import TemporaryDirectory
    >>> record = {"image_id": 7, "file_name": "a.jpg", "height": 4, "width": 6, "annotations": []}
    >>> with TemporaryDirectory() as folder:
    ...     write_records(Path(folder, "my.records"), ["cat"], [record])
    ...     RecordFile(f"{folder}/my.records", "/data")[0]["file_name"]
    1
    '/data/a.jpg'
    """
    index: dict[str, list] = {"image_ids": [], "file_names": [], "bytes": [], "objects": []}
    per_class: Counter[int] = Counter()
    with open(path, "wb") as file:
        for record in records:
            line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
            file.write(line)
            objects = record["annotations"]
            per_class.update(each["category_id"] for each in objects)
            counted = sum(not each.get("iscrowd") for each in objects)
            for column, value in zip(
                index.values(), (record["image_id"], record["file_name"], len(line), counted), strict=True
            ):
                column.append(value)
        counts = [per_class[label] for label in range(len(classes))]
        start = file.tell()
        file.write(json.dumps({"classes": list(classes), **index, "objects_per_class": counts}).encode() + b"\n")
        file.write(b"%020d\n" % start)
    return len(index["bytes"])
