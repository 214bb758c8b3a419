"""Visualizer of segmentations: image, prediction and ground truth side by side, with a legend.

Shape legend
    image  H×W×3 uint8 RGB        sem_seg  H×W int64, negative where there is no class
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from d2host import DatasetEvaluator, comm
from d2host.engine.atomic import replacing
from declip.data.class_lists import first_synonym
from declip.data.datasets import dataset_metadata
from declip.data.reading import LabelFormat, read_image
from declip.evaluation.sem_seg_evaluator import background_class, to_labels

OPACITY = 0.65
LEGEND_ENTRIES = 24
OVERVIEW_ROWS = 6
PANEL_INCHES = 2.6


@dataclass(frozen=True)
class Segmentation:
    """One image and what is said about its pixels.

    Attributes:
        image: H×W×3 uint8.
        panels: title → H×W labels, drawn left to right.
    """

    image: np.ndarray
    panels: dict[str, np.ndarray]


def paint(image: np.ndarray, sem_seg: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Classes laid over an image in their colours, with white borders between them; no class: the image alone."""
    painted = image.astype(np.float32)
    labelled = sem_seg >= 0
    painted[labelled] = (1 - OPACITY) * painted[labelled] + OPACITY * colors[sem_seg[labelled]]
    border = np.zeros(sem_seg.shape, dtype=bool)
    border[1:] |= sem_seg[1:] != sem_seg[:-1]
    border[:, 1:] |= sem_seg[:, 1:] != sem_seg[:, :-1]
    painted[border] = 255
    return painted.round().astype(np.uint8)


def draw(rows: Sequence[Segmentation], class_names: Sequence[str], colors: np.ndarray) -> Figure:
    """A figure with one row per image: the image, then its panels; below, the classes that fill most pixels."""
    columns = 1 + max(len(row.panels) for row in rows)
    heights = [row.image.shape[0] / row.image.shape[1] for row in rows]
    figure = Figure(figsize=(PANEL_INCHES * columns, PANEL_INCHES * sum(heights) + 1.2), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for number, (row, cells) in enumerate(zip(rows, axes, strict=True)):
        panels = {
            "image": row.image,
            **{title: paint(row.image, panel, colors) for title, panel in row.panels.items()},
        }
        for axis in cells:
            axis.axis("off")
        for axis, (title, panel) in zip(cells, panels.items(), strict=False):
            axis.imshow(panel)
            if number == 0:
                axis.set_title(title, fontsize=9)
    patches = [
        Patch(color=colors[index] / 255, label=first_synonym(class_names[index])) for index in most_frequent(rows)
    ]
    if patches:
        figure.legend(
            handles=patches, loc="outside lower center", ncols=min(6, len(patches)), fontsize=7, frameon=False
        )
    return figure


def most_frequent(rows: Sequence[Segmentation]) -> list[int]:
    """The classes that fill most pixels of all panels, most first, at most as many as a legend holds."""
    labels = np.concatenate([panel[panel >= 0] for row in rows for panel in row.panels.values()])
    counts = np.bincount(labels, minlength=1)
    order = np.argsort(-counts, kind="stable")[:LEGEND_ENTRIES]
    return [int(index) for index in order if counts[index]]


class SegmentationVisualizer(DatasetEvaluator):
    """Draws image, prediction and ground truth of the first images of a dataset, and ``overview.png`` of several.

    Args:
        dataset_name: of a registered dataset.
        output_folder: where the drawings go.
        count: how many images, over all processes.
    """

    def __init__(self, dataset_name: str, output_folder: str | Path, count: int) -> None:
        metadata = dataset_metadata(dataset_name)
        self.class_names, self.labels = metadata.stuff_classes, LabelFormat.of(metadata)
        self.colors = np.asarray(metadata.stuff_colors, dtype=np.float32)
        self.background = background_class(metadata)
        self.folder = Path(output_folder)
        self.count = -(-count // comm.get_world_size())
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self._drawn = 0
        self._overview: list[Segmentation] = []

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Draw a batch, until as many images as wanted are drawn."""
        for sample, output in zip(inputs, outputs, strict=True):
            if self._drawn >= self.count:
                return
            prediction = to_labels(output["sem_seg"])
            if self.background is not None:
                prediction = prediction.clip(max=self.background)
            segmentation = self._compare(sample, prediction)
            self._save(f"{sample.get('image_id', Path(sample['file_name']).stem)}.png", [segmentation])
            if len(self._overview) < OVERVIEW_ROWS:
                self._overview.append(segmentation)
            self._drawn += 1

    def evaluate(self) -> dict:
        """Write the overview; there are no metrics."""
        if self._overview and comm.is_main_process():
            self._save("overview.png", self._overview)
        return {}

    def _compare(self, sample: dict, prediction: np.ndarray) -> Segmentation:
        sem_seg = self.labels.read(sample["sem_seg_file_name"])
        sem_seg = np.where(sem_seg == self.labels.ignore_label, -1, sem_seg)
        image = read_image(sample["file_name"])
        return Segmentation(image, {"prediction": prediction, "ground truth": sem_seg})

    def _save(self, name: str, rows: Sequence[Segmentation]) -> None:
        with replacing(self.folder / name) as file:
            draw(rows, self.class_names, self.colors).savefig(file, dpi=110)
