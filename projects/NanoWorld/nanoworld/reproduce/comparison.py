"""What several models say about the same images, side by side."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from declip.data.datasets import dataset_metadata, dataset_records
from declip.data.reading import LabelFormat, read_array, read_image
from declip.evaluation.sem_seg_evaluator import prediction_file
from declip.evaluation.visualizer import Segmentation, draw


def compare_predictions(dataset: str, predictions: Mapping[str, Path], count: int = 5) -> Figure:
    """The first images of a dataset, each with everybody's saved predictions and the ground truth.

    Args:
        dataset: registered, with labels.
        predictions: title of a column → output folder of an evaluation with ``TEST.SAVE_PREDICTIONS``.
        count: rows.
    """
    metadata = dataset_metadata(dataset)
    labels = LabelFormat.of(metadata)
    rows = []
    for sample in dataset_records(dataset)[:count]:
        panels = {
            title: read_array(prediction_file(folder, sample)).astype(np.int64) for title, folder in predictions.items()
        }
        sem_seg = labels.read(sample["sem_seg_file_name"])
        panels["ground truth"] = np.where(sem_seg == labels.ignore_label, -1, sem_seg)
        rows.append(Segmentation.of(read_image(sample["file_name"]), panels))
    return draw(rows, metadata.stuff_classes, np.asarray(metadata.stuff_colors, dtype=np.float32))
