"""From label maps to numbers: the confusion matrix and what is read off it.

Shape legend
    K  classes        confusion  K×K int64, rows ground truth, columns prediction
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CACHED_PIXELS = 2**15  # of an image that are counted at a time


def confusion_matrix(prediction: np.ndarray, sem_seg: np.ndarray, num_classes: int, ignore_label: int) -> np.ndarray:
    """Count pixels by (ground truth, prediction); ignored pixels count for nothing.

    Args:
        prediction: H×W integers in [0, K).
        sem_seg: H×W integers in [0, K) or ``ignore_label``.

    Returns:
        K×K int64.
    """
    bins = num_classes * (num_classes + 1)  # of which the last row is what counts for nothing
    counts, rows = np.zeros(bins, np.int64), max(CACHED_PIXELS, bins) // max(sem_seg.shape[1], 1) + 1
    for top in range(0, len(sem_seg), rows):
        labels = sem_seg[top : top + rows].astype(np.int32)
        labels[labels == ignore_label] = num_classes
        labels *= num_classes
        labels += prediction[top : top + rows].astype(np.int32)
        counts += np.bincount(labels.ravel(), minlength=bins)
    return counts[: num_classes**2].reshape(num_classes, num_classes)


@dataclass(frozen=True)
class Metrics:
    """Segmentation quality, every number in percent.

    Attributes:
        mean_iou: over the classes that occur in the ground truth (Detectron2 main).
        mean_iou_v06: over the classes that occur in ground truth or prediction (Detectron2 0.6).
        frequency_weighted_iou: classes weighted by their ground-truth pixels.
        mean_accuracy: of the pixels of a class, over the classes in the ground truth.
        pixel_accuracy: of all pixels.
        iou, accuracy: K, per class; NaN for classes that do not occur.
        pixels: K, ground-truth pixels per class.
    """

    mean_iou: float
    mean_iou_v06: float
    frequency_weighted_iou: float
    mean_accuracy: float
    pixel_accuracy: float
    iou: np.ndarray
    accuracy: np.ndarray
    pixels: np.ndarray

    def group_mean_iou(self, classes: Sequence[int]) -> float:
        """Mean IoU over those of ``classes`` that occur in the ground truth."""
        return _mean(self.iou[list(classes)][self.pixels[list(classes)] > 0])


def compute_metrics(confusion: np.ndarray) -> Metrics:
    """Everything that can be read off a confusion matrix; NaN where nothing was labelled.

    >>> prediction, sem_seg = np.array([[0, 1], [1, 1]]), np.array([[0, 1], [0, 255]])  # 255: ignored
    >>> metrics = compute_metrics(confusion_matrix(prediction, sem_seg, num_classes=2, ignore_label=255))
    >>> metrics.iou.tolist(), metrics.mean_iou
    ([50.0, 50.0], 50.0)

    Args:
        confusion: K×K, of any number of images: see :func:`confusion_matrix`.
    """
    correct = np.diag(confusion).astype(np.float64)
    pixels, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    union = pixels + predicted - correct
    iou, accuracy = _percent(correct, union), _percent(correct, pixels)
    present, total = pixels > 0, pixels.sum()
    return Metrics(
        mean_iou=_mean(iou[present]),
        mean_iou_v06=_mean(iou[union > 0]),
        frequency_weighted_iou=float((iou[present] * pixels[present]).sum() / total) if total else float("nan"),
        mean_accuracy=_mean(accuracy[present]),
        pixel_accuracy=float(100 * correct.sum() / total) if total else float("nan"),
        iou=iou,
        accuracy=accuracy,
        pixels=pixels,
    )


def harmonic_mean(values: Sequence[float]) -> float:
    """Harmonic mean; 0 if any value is 0."""
    return 0.0 if any(value == 0 for value in values) else len(values) / sum(1 / value for value in values)


def summarize(metrics: Metrics, class_groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """The numbers of a results table by the names users know, with mean IoU per group of classes.

    Two groups or more also get ``hIoU``, the harmonic mean of theirs.
    """
    summary = {
        "mIoU": metrics.mean_iou,
        "mIoU_v06": metrics.mean_iou_v06,
        "fwIoU": metrics.frequency_weighted_iou,
        "mACC": metrics.mean_accuracy,
        "pACC": metrics.pixel_accuracy,
    }
    groups = {f"mIoU_{name}": metrics.group_mean_iou(classes) for name, classes in class_groups.items()}
    if len(groups) > 1:
        groups["hIoU"] = harmonic_mean(list(groups.values()))
    return {**summary, **groups}


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(100 * part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
