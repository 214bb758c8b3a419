"""Is a file of detection records whole? Counts, classes, boxes, and the images that it names."""

import os
from functools import partial
from pathlib import Path

from d2host.engine.errors import DataError
from declip.data.class_lists import load_class_list
from declip.data.detection.annotations import fault_in_record
from declip.data.detection.benchmarks import DetectionDataset
from declip.data.detection.record_file import RecordFile
from declip.data.preparation.check import COUNT, FOLDERS, IMAGE, SIZE, Check, Fault
from declip.data.preparation.conversion import map_files
from declip.data.reading import check_same_size, read_image, read_size
from declip.data.root import dataset_root

CHUNK = 500  # images that a worker checks at a time
CLASSES, OBJECTS, MISSING = "other classes", "impossible object", "missing image"


def check_detection(
    name: str,
    dataset: DetectionDataset,
    workers: int = 1,
    quick: bool = False,
    decode: bool = True,
    root: Path | None = None,
) -> Check:
    """Check one detection dataset, all of it: no fault hides another.

    Args:
        name: as registered.
        dataset: what it should be.
        workers: processes.
        quick: without opening an image or reading a record.
        decode: read images whole; otherwise only their sizes.
        root: of the data; None: :func:`declip.data.root.dataset_root`.
    """
    root = root or dataset_root()
    try:
        records = RecordFile(root / dataset.records, root, dataset.prepare)
    except DataError as error:
        return Check(name, 0, dataset.num_images, (Fault(FOLDERS, str(error)),))
    faults, classes = [], load_class_list(dataset.classes)
    if dataset.num_images not in (0, len(records)):
        sentence = f"{len(records)} images instead of {dataset.num_images}: figures on it are not the benchmark's"
        faults.append(Fault(COUNT, sentence))
    if records.classes != classes:
        faults.append(Fault(CLASSES, f"{records.path} is of other classes: remove it and {dataset.prepare}"))
    novel = dataset.class_groups()[dataset.novel] if dataset.training else []
    leaked = sum(records.objects_per_class[label] for label in novel if label < len(records.objects_per_class))
    if leaked:
        faults.append(Fault(OBJECTS, f"{leaked} objects in {records.path} are of novel classes: {dataset.prepare}"))
    missing = [each for each in records.file_names if not os.path.isfile(root / each)]
    faults += [Fault(MISSING, f"image {root / each} does not exist") for each in missing]
    if not quick:
        chunks = [(start,) for start in range(0, len(records), CHUNK)]
        check = partial(check_records, path=records.path, root=root, classes=classes, decode=decode)
        faults += [fault for found in map_files(check, chunks, workers, name) for fault in found]
    return Check(name, len(records), dataset.num_images, tuple(faults))


def check_records(start: int, *, path: Path, root: Path, classes: list[str], decode: bool) -> list[Fault]:
    """What is wrong with some images of a file, from a position on, and with what it says of them."""
    faults = []
    for record in RecordFile(path, root)[start : start + CHUNK]:
        image = record["file_name"]
        if fault := fault_in_record(record, classes):
            faults.append(Fault(OBJECTS, f"image {image}, {fault}"))
            continue
        if not os.path.isfile(image):
            continue
        try:
            size = read_image(image).shape[:2] if decode else read_size(image)
        except DataError as error:
            faults.append(Fault(IMAGE, str(error)))
            continue
        try:
            check_same_size(size, (record["height"], record["width"]), image, f"the record of {image}")
        except DataError as error:
            faults.append(Fault(SIZE, str(error)))
    return faults
