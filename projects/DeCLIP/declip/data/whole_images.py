"""Images with something said of them as a whole: captions, or the name of one class.

Sources of captions: a COCO captions ``.json``; a folder in which ``street.jpg`` has ``street.txt`` beside it, a caption
a line; or a plug-in's dataset whose records have a ``caption``. Sources of classes: a folder with a folder for each.
"""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from d2host.engine.errors import DataError
from declip.data.image_list import ImageRecord
from declip.data.listing import find_files
from declip.data.records import IDENTIFIER, OBJECTS, PATH, TEXT, fault_in
from declip.data.text_files import read_json, read_text
from declip.plugins import from_plugins

WORDNET_ID = re.compile(r"n\d{8}")
NAMES_FILE = "class_names.txt"
IMAGE_RULES, CAPTION_RULES = {"id": IDENTIFIER, "file_name": PATH}, {"image_id": IDENTIFIER, "caption": TEXT}


@dataclass(frozen=True)
class CaptionedImages:
    """Images, each with captions.

    Attributes:
        images: see :class:`declip.data.image_list.ImageRecord`.
        captions: at least one per image.
    """

    images: tuple[ImageRecord, ...]
    captions: tuple[tuple[str, ...], ...]

    def first(self, most: int) -> "CaptionedImages":
        """The first images; 0: all."""
        return CaptionedImages(*(each[: most or None] for each in (self.images, self.captions)))


@dataclass(frozen=True)
class LabelledImages:
    """Images, each of one class.

    Attributes:
        images: see :class:`declip.data.image_list.ImageRecord`.
        labels: indices into ``class_names``, one per image.
        class_names: in label order.
    """

    images: tuple[ImageRecord, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def first(self, most: int) -> "LabelledImages":
        """So many images, spread evenly over the list, which goes class by class; 0: all."""
        total = len(self.images)
        chosen = range(total) if not most or most >= total else [total * index // most for index in range(most)]
        images, labels = (tuple(each[index] for index in chosen) for each in (self.images, self.labels))
        return LabelledImages(images, labels, self.class_names)


def load_captions(source: str, image_root: str = "", dataset_root: str | Path = "datasets") -> CaptionedImages:
    """Captioned images; those without a caption are left out, which is logged.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (30, 20)).save(f"{folder}/street.jpg")
    ...     _ = Path(folder, "street.txt").write_text("a street\\nsome houses\\n")
    ...     load_captions(folder).captions
    (('a street', 'some houses'),)

    Args:
        source: see the module.
        image_root: folder of the images of a ``.json``; empty: that of the file.
        dataset_root: folder of the datasets, for those by name.

    Raises:
        DataError: the source does not exist, or no image in it has a caption.
    """
    added = from_plugins("datasets")
    if source in added:
        records = added[source].load(Path(dataset_root))
        pairs = [(record["file_name"], [record["caption"]] if record.get("caption") else []) for record in records]
    elif os.path.isdir(source):
        texts = {file: file.with_suffix(".txt") for file in find_files(Path(source))}
        pairs = [(str(file), _lines(text) if text.is_file() else []) for file, text in texts.items()]
    elif os.path.isfile(source) and Path(source).suffix == ".json":
        pairs = _pairs_in_json(Path(source), Path(image_root) if image_root else Path(source).parent)
    else:
        raise DataError(
            f"captioned images {source} do not exist: give a COCO captions .json, a folder of images with .txt files, "
            f"or one of {', '.join(added)}"
        )
    captioned = [(ImageRecord(name), tuple(captions)) for name, captions in pairs if captions]
    if not captioned:
        raise DataError(f"no image of {source} has a caption: put a .txt file with captions beside each")
    if len(captioned) < len(pairs):
        logging.getLogger(__name__).warning("%d images of %s have no caption", len(pairs) - len(captioned), source)
    return CaptionedImages(*zip(*captioned, strict=True))


def load_classes(source: str) -> LabelledImages:
    """Images of a folder with a folder for each class.

    Classes are called as their folders, with spaces for underscores, or as ``class_names.txt`` beside these says, a
    name a line, in the order of the sorted folders. The thousand WordNet ids of ImageNet are known by their names.

    Raises:
        DataError: the folder does not exist, or holds no such folders, or their names do not fit.
    """
    if not os.path.isdir(source):
        raise DataError(f"labelled images {source} are no folder: give one with a folder of images for each class")
    folders = sorted(entry.name for entry in os.scandir(source) if entry.is_dir() and not entry.name.startswith("."))
    found = [find_files(Path(source) / folder) for folder in folders]
    if not any(found):
        raise DataError(f"no image found in {source}: it needs a folder of images for each class")
    names = _class_names(Path(source), folders)
    pairs = [(ImageRecord(str(file)), label) for label, files in enumerate(found) for file in files]
    images, labels = zip(*pairs, strict=True)
    return LabelledImages(images, labels, names)


def _class_names(source: Path, folders: Sequence[str]) -> tuple[str, ...]:
    if (source / NAMES_FILE).is_file():
        names = tuple(_lines(source / NAMES_FILE))
        if len(names) != len(folders):
            raise DataError(f"{source / NAMES_FILE} has {len(names)} names for {len(folders)} folders: give one each")
        return names
    if all(WORDNET_ID.fullmatch(folder) for folder in folders):
        from open_clip import IMAGENET_CLASSNAMES

        if len(folders) != len(IMAGENET_CLASSNAMES):
            raise DataError(f"the {len(folders)} folders of {source} are WordNet ids: name them in {NAMES_FILE} there")
        return tuple(IMAGENET_CLASSNAMES)
    return tuple(folder.replace("_", " ") for folder in folders)


def _lines(path: Path) -> list[str]:
    text = read_text(path, "captions", "give one a line")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _pairs_in_json(path: Path, folder: Path) -> list[tuple[str, list[str]]]:
    """Image and captions of COCO's captions files, in the order of their images."""
    content = read_json(path, "captions", "give a COCO captions file")
    fault = fault_in(content, {"images": OBJECTS, "annotations": OBJECTS})
    rules_of = {} if fault else {"images": IMAGE_RULES, "annotations": CAPTION_RULES}
    for key, rules in rules_of.items():
        faults = ((index, fault_in(each, rules)) for index, each in enumerate(content[key]))
        fault = fault or next((f"{key}[{index}]: {each}" for index, each in faults if each), "")
    if fault:
        raise DataError(f"{path} is no COCO captions file ({fault}): give one")
    captions: dict = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in captions:
            raise DataError(f"{path} has a caption of image {annotation['image_id']!r}, which is none of its images")
        captions[annotation["image_id"]].append(annotation["caption"].strip())
    return [(str(folder / image["file_name"]), captions[image["id"]]) for image in content["images"]]
