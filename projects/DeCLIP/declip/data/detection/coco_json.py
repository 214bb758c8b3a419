"""Annotation files of COCO and LVIS, read an object at a time: LVIS's largest has 1.1 GB.

Such a file holds ``images``, ``categories`` and ``annotations``, in any order. It is read twice, and of the annotations
no more is kept than the text that goes into a record.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from d2host.engine.errors import DataError
from declip.data.detection.annotations import OBJECT, XYWH, fault_in_box, is_flat
from declip.data.detection.run_lengths import fault_in_mask
from declip.data.records import IDENTIFIER, INSIDE, SIDE, TEXT, Rule, fault_in, twice
from declip.data.text_files import read_text

MOST_BYTES = 2 * 2**30  # of an annotation file
KIND, REMEDY = "annotation file", "give one in COCO's format"

_BLANK = re.compile(r"[ \t\n\r]*")
_IDS = Rule("a list of category ids", lambda value: isinstance(value, list) and all(map(IDENTIFIER.holds, value)))
_URL = Rule("an address", lambda value: isinstance(value, str) and value.count("/") >= 2)
_IMAGE = {
    "id": IDENTIFIER,
    "file_name": INSIDE.optional(),
    "coco_url": _URL.optional(),
    "height": SIDE,
    "width": SIDE,
    "neg_category_ids": _IDS.optional(),
    "not_exhaustive_category_ids": _IDS.optional(),
}
_CATEGORY = {"id": IDENTIFIER, "name": TEXT}
_FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")


def stream_json(path: str | Path, kind: str = KIND, remedy: str = REMEDY) -> Iterator[tuple[str, Any]]:
    """The parts of the object that a JSON file holds: key and value, where that is a list once for each of its members.

    Raises:
        DataError: the file is missing, too large or no JSON, or holds something else.
    """
    text = read_text(path, kind, remedy, MOST_BYTES)
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def after(position: int, sign: str) -> int:
        """Where what follows a sign begins."""
        position = _BLANK.match(text, position).end()
        if text[position] != sign:
            raise ValueError(f"'{sign}' is missing at character {position}")
        return _BLANK.match(text, position + 1).end()

    try:
        position = after(0, "{")
        while text[position] != "}":
            key, position = decoder.raw_decode(text, position)
            position = after(position, ":")
            many = text[position] == "["
            position = after(position, "[") if many else position
            while not many or text[position] != "]":
                value, position = decoder.raw_decode(text, position)
                yield key, value
                position = _BLANK.match(text, position).end()
                if not many:
                    break
                position = after(position, ",") if text[position] != "]" else position
            position = after(position, "]") if many else position
            position = after(position, ",") if text[position] != "}" else position
    except (ValueError, IndexError, RecursionError, MemoryError) as error:
        reason = "it ends too soon" if isinstance(error, IndexError) else str(error)
        raise DataError(f"{kind} {path} is no JSON that can be read ({reason}): {remedy}") from error


@dataclass
class CocoFile:
    """What an annotation file says of some classes.

    Attributes:
        images: by id.
        objects: of images with annotations of the classes, by id, the text of a JSON object for each, with
            ``category_id`` a label.
        others: number of annotations of other categories.
        flat: ids of annotations that are left out since their boxes have no area.
    """

    images: dict[Any, dict]
    objects: dict[Any, list[str]] = field(default_factory=lambda: defaultdict(list))
    others: int = 0
    flat: list[Any] = field(default_factory=list)

    def records(self, folder: str, keep_empty: bool) -> Iterator[dict]:
        """Dataset dicts, by image id, whose names start from the data root.

        Args:
            folder: of the images, below the data root.
            keep_empty: also images without an annotation of the classes.
        """
        for number in sorted(self.images, key=lambda each: (isinstance(each, str), each)):
            image, objects = self.images[number], self.objects.get(number, [])
            if number in self.objects or keep_empty:
                name = image.get("file_name") or "/".join(image["coco_url"].split("/")[-2:])
                yield {
                    "image_id": number,
                    "file_name": f"{folder}/{name}",
                    "height": image["height"],
                    "width": image["width"],
                    "annotations": json.loads(f"[{','.join(objects)}]"),
                    **{key: image[key] for key in _FEDERATED if image.get(key) is not None},
                }


def read_coco(
    path: str | Path,
    classes: Sequence[str],
    ids: Sequence[int] | None = None,
    *,
    without: Collection[int] = (),
    remedy: str = REMEDY,
) -> CocoFile:
    """The annotations of some classes; those of other categories are counted.

    Args:
        path: of the file.
        classes: names, in label order; case, spaces and signs do not matter.
        ids: their category ids; None: any.
        without: labels of classes whose annotations are left out.
        remedy: what to do where it cannot be used.

    Raises:
        DataError: the file is missing or no such file, lacks a class or knows it by another id, repeats an id, or an
            annotation is of an image or category that there is not, or lies outside its image.
    """
    images, labels = _read_tables(path, classes, ids, remedy)
    found = CocoFile(images)
    values = (value for key, value in stream_json(path, remedy=remedy) if key == "annotations")
    for position, value in enumerate(tqdm(values, desc=Path(path).name, unit="annotation")):
        if fault := _fault_in_annotation(value, images, labels):
            raise DataError(f"{KIND} {path}: annotations[{position}]: {fault}: {remedy}")
        label = labels[value["category_id"]]
        if label is None or label in without:
            found.others += 1
            continue
        objects = found.objects[value["image_id"]]
        if is_flat(value["bbox"], XYWH):
            found.flat.append(value.get("id", position))
        else:
            kept = {"bbox": value["bbox"], "bbox_mode": XYWH, "category_id": label, "iscrowd": value.get("iscrowd", 0)}
            kept |= {name: value[name] for name in ("area", "segmentation") if value.get(name)}
            objects.append(json.dumps(kept, separators=(",", ":")))
    if not (found.objects or found.others):
        raise DataError(f"{KIND} {path} has no 'annotations': {remedy}")
    return found


def _fault_in_annotation(value: Any, images: Mapping[Any, dict], labels: Mapping[Any, int | None]) -> str:
    if fault := fault_in(value, {**OBJECT, "image_id": IDENTIFIER}):
        return fault
    image = images.get(value["image_id"])
    if image is None:
        return f"it is of image {value['image_id']}, which 'images' lacks"
    if value["category_id"] not in labels:
        return f"it is of category {value['category_id']}, which 'categories' lacks"
    if is_flat(value["bbox"], XYWH):
        return ""  # COCO's own file has some: they are left out, not refused
    size = image["height"], image["width"]
    return fault_in_box(value["bbox"], XYWH, *size) or fault_in_mask(value.get("segmentation") or [], *size)


def _read_tables(
    path: str | Path, classes: Sequence[str], ids: Sequence[int] | None, remedy: str
) -> tuple[dict[Any, dict], dict[Any, int | None]]:
    """The images by id, and the label of every category by id, None for other classes."""
    tables: dict[str, list] = {"images": [], "categories": []}
    for key, value in stream_json(path, remedy=remedy):
        if key in tables:
            tables[key].append(value)
    for key, rules in (("images", _IMAGE), ("categories", _CATEGORY)):
        faults = (f"{key}[{position}]: {fault_in(each, rules)}" for position, each in enumerate(tables[key]))
        fault = next((each for each in faults if not each.endswith(": ")), "")
        if not tables[key]:
            fault = f"it has no '{key}'"
        elif not fault and (repeated := twice([each["id"] for each in tables[key]])):
            fault = f"'{key}' has 'id' {repeated[0]} twice"
        if fault:
            raise DataError(f"{path} is no annotation file ({fault}): {remedy}")
    unnamed = [image["id"] for image in tables["images"] if not image.get("file_name") and not image.get("coco_url")]
    if unnamed:
        raise DataError(f"{path} is no annotation file (image {unnamed[0]} has no 'file_name'): {remedy}")
    by_name = {letters(category["name"]): category["id"] for category in tables["categories"]}
    missing = [name for name in classes if letters(name) not in by_name]
    if missing:
        raise DataError(
            f"{path} is of other categories: it lacks {len(missing)} of {len(classes)} classes, among them "
            f"'{missing[0]}': {remedy}"
        )
    found = [by_name[letters(name)] for name in classes]
    if ids is not None and found != list(ids):
        label = next(label for label, number in enumerate(found) if number != ids[label])
        raise DataError(
            f"{path} has category '{classes[label]}' as {found[label]}, the benchmark as {ids[label]}: {remedy}"
        )
    labels = {number: label for label, number in enumerate(found)}
    images = {image["id"]: image for image in tables["images"]}
    return images, {category["id"]: labels.get(category["id"]) for category in tables["categories"]}


def letters(name: str) -> str:
    """What a class's name is known by in files that differ in case, spaces and signs.

    >>> letters("cabinet / shelf") == letters("Cabinet/Shelf")
    True
    """
    return re.sub(r"[\W_]", "", name.lower())


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
