"""Visualizer of segmentations: image, prediction and ground truth side by side, with a legend.

Shape legend
    image  H×W×3 uint8 RGB        sem_seg  H×W int64, negative where there is no class
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from d2host import DatasetEvaluator, comm
from d2host.engine.atomic import replacing
from d2host.engine.errors import DataError
from declip.data.class_lists import first_synonym
from declip.data.datasets import dataset_metadata
from declip.data.mapper import fitted, resize_image, resize_labels
from declip.data.reading import LabelFormat, check_same_size, read_image
from declip.evaluation.sem_seg_evaluator import background_class, to_labels
from declip.evaluation.style import add_legend

OPACITY = 0.65
LEGEND_ENTRIES, LEGEND_COLUMNS, NAME_LENGTH = 24, 6, 40
OVERVIEW_ROWS, MOST_ROWS = 6, 100
PANEL_INCHES = 2.6
PANEL_PIXELS = 1024  # of the longer side: more would not be seen
CELL_SHAPES = (0.25, 2.0)  # height by width; what is longer is drawn narrower ...
MOST_SHAPE = 20  # ... up to this ratio of its sides, and stretched beyond


@dataclass(frozen=True)
class Segmentation:
    """One image and what is said about its pixels.

    Attributes:
        image: H×W×3 uint8.
        panels: title → H×W labels, drawn left to right.
    """

    image: np.ndarray
    panels: dict[str, np.ndarray]

    @classmethod
    def of(cls, image: np.ndarray, panels: Mapping[str, np.ndarray]) -> "Segmentation":
        """Image and labels of one size, made smaller where they are larger than a drawing shows."""
        size = fitted(image.shape[:2], PANEL_PIXELS)
        return cls(resize_image(image, size), {title: resize_labels(panel, size) for title, panel in panels.items()})


def paint(image: np.ndarray, sem_seg: np.ndarray, colors: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """Classes laid over an image in their colours, with white borders between them; no class: the image alone."""
    painted = image.astype(np.float32)
    labelled = sem_seg >= 0
    painted[labelled] = (1 - opacity) * painted[labelled] + opacity * colors[sem_seg[labelled]]
    border = np.zeros(sem_seg.shape, dtype=bool)
    border[1:] |= sem_seg[1:] != sem_seg[:-1]
    border[:, 1:] |= sem_seg[:, 1:] != sem_seg[:, :-1]
    painted[border] = 255
    return painted.round().astype(np.uint8)


def check_rows(count: int) -> None:
    """Refuse (DataError) a figure of so many images, before any work is done for it."""
    if not 1 <= count <= MOST_ROWS:
        raise DataError(f"a figure of {count} images cannot be drawn: choose 1 to {MOST_ROWS}")


def draw(rows: Sequence[Segmentation], class_names: Sequence[str], colors: np.ndarray) -> Figure:
    """A figure with one row per image: the image, then its panels; below, the classes that fill most pixels.

    Raises:
        DataError: there are more rows than a figure holds, or none.
    """
    check_rows(len(rows))
    columns = 1 + max(len(row.panels) for row in rows)
    shapes = [row.image.shape[0] / row.image.shape[1] for row in rows]
    heights = [float(np.clip(shape, *CELL_SHAPES)) for shape in shapes]
    figure = Figure(figsize=(PANEL_INCHES * columns, PANEL_INCHES * sum(heights) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for number, (row, shape, cells) in enumerate(zip(rows, shapes, axes, strict=True)):
        panels = {
            "image": row.image,
            **{title: paint(row.image, panel, colors) for title, panel in row.panels.items()},
        }
        for axis in cells:
            axis.axis("off")
        for axis, (title, panel) in zip(cells, panels.items(), strict=False):
            axis.imshow(panel, aspect=float(np.clip(shape, 1 / MOST_SHAPE, MOST_SHAPE)) / shape)
            if number == 0:
                axis.set_title(title, fontsize=9, parse_math=False)
    _add_legend(figure, rows, class_names, colors)
    return figure


def _add_legend(figure: Figure, rows: Sequence[Segmentation], class_names: Sequence[str], colors: np.ndarray) -> None:
    """Name the most frequent classes below the panels, in as many columns as fit; the figure grows by the legend."""
    present = most_frequent(rows)
    if not present:
        return
    shown = present[:LEGEND_ENTRIES]
    names = [" ".join(first_synonym(class_names[index]).split()) for index in shown]
    names = [
        name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}" for name in names
    ]
    patches = [Patch(color=colors[index] / 255) for index in shown]
    if len(present) > len(shown):
        names, patches = [*names, f"and {len(present) - len(shown)} more"], [*patches, Patch(alpha=0)]
    for columns in range(min(LEGEND_COLUMNS, len(names)), 0, -1):
        legend = add_legend(
            figure, zip(names, patches, strict=True), loc="outside lower center", ncols=columns, fontsize=7
        )
        extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)


def save_figure(figure: Figure, path: str | Path, dpi: int = 130) -> None:
    """Write a figure as a picture, whole or not at all.

    Raises:
        DataError: it cannot be written, or its ending is no format of pictures.
    """
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=dpi)
    except (OSError, ValueError) as error:
        raise DataError(f"picture {path} cannot be written ({error}): choose another path, such as x.png") from error


def most_frequent(rows: Sequence[Segmentation]) -> list[int]:
    """The classes that occur in the panels, those that fill most pixels first."""
    labels = np.concatenate([panel[panel >= 0] for row in rows for panel in row.panels.values()])
    counts = np.bincount(labels, minlength=1)
    return [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]


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
        name = f"label file {sample['sem_seg_file_name']}"
        check_same_size(image.shape[:2], sem_seg.shape, sample["file_name"], name)
        return Segmentation.of(image, {"prediction": prediction, "ground truth": sem_seg})

    def _save(self, name: str, rows: Sequence[Segmentation]) -> None:
        save_figure(draw(rows, self.class_names, self.colors), self.folder / name, dpi=110)
