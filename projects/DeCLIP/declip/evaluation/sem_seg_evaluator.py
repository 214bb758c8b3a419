"""The evaluator of semantic segmentation: predictions of a dataset against its label files."""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePath

import numpy as np
import torch
from PIL import Image

from d2host import DatasetEvaluator, comm
from d2host.engine.atomic import replacing
from d2host.engine.errors import DataError
from d2host.engine.tensors import check_finite
from declip.data.datasets import dataset_metadata, dataset_records
from declip.data.reading import LabelFormat
from declip.evaluation.metrics import Metrics, compute_metrics, confusion_matrix, summarize
from declip.evaluation.results import finite, write_csv, write_json

MOST_WAITING = 16  # predictions that wait to be written
MOST_CLASSES = 10_000  # whose confusion matrix takes 0.8 GB


class SemSegEvaluator(DatasetEvaluator):
    """Mean IoU and its relatives, exact over any number of images and processes.

    With an output folder it leaves ``results.json`` and ``per_class.csv`` there and, on request, every prediction
    as ``predictions/<image id>.png``.

    Args:
        class_names: K names in label order.
        labels: how label files are read; labels outside the class list are an error naming the file.
        class_groups: name → class indices whose mean IoU is given apart.
        output_folder: where files go; None: none.
        save_predictions: write predictions, too.
        background: class that predictions of it and of all higher indices mean; None: predictions mean themselves.

    Raises:
        DataError: there are more classes than a confusion matrix can hold, or a group names one that is none.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        labels: LabelFormat,
        *,
        class_groups: Mapping[str, Sequence[int]] | None = None,
        output_folder: str | Path | None = None,
        save_predictions: bool = False,
        background: int | None = None,
    ) -> None:
        self.class_names, self.labels = list(class_names), labels
        self.class_groups = dict(class_groups or {})
        self.output_folder = Path(output_folder) if output_folder else None
        self.save_predictions, self.background = save_predictions, background
        if len(self.class_names) > MOST_CLASSES:
            raise DataError(f"{len(self.class_names)} classes are too many to evaluate: give at most {MOST_CLASSES}")
        for group, classes in self.class_groups.items():
            if not all(0 <= index < len(self.class_names) for index in classes):
                raise DataError(f"class group '{group}' names classes beyond the {len(self.class_names)}: correct it")
        self._claimed: dict[Path, str] = {}
        self._writer = ThreadPoolExecutor(1, "predictions")  # beside which the next image is predicted
        self.reset()

    @classmethod
    def of(cls, dataset_name: str, **options) -> "SemSegEvaluator":
        """The evaluator of a registered dataset; ``options`` as of the constructor.

        Raises:
            DataError: predictions are to be saved, and those for two images would have one name.
        """
        metadata = dataset_metadata(dataset_name)
        groups = metadata.get("class_groups", {})
        options["background"] = background_class(metadata)
        evaluator = cls(metadata.stuff_classes, LabelFormat.of(metadata), class_groups=groups, **options)
        if evaluator.save_predictions and evaluator.output_folder:
            for record in dataset_records(dataset_name):
                evaluator._claim(record)
        return evaluator

    def reset(self) -> None:
        """Forget all counts."""
        self._writes: deque[Future] = deque()
        self._confusion, self._images = np.zeros((len(self.class_names),) * 2, dtype=np.int64), 0

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Count one batch.

        Args:
            inputs: dataset dicts with ``file_name`` and ``sem_seg_file_name``.
            outputs: per image ``sem_seg``: K×H×W scores or H×W labels.

        Raises:
            DataError: a label file is unreadable or foreign, or a prediction does not fit it, or would overwrite that
                for another image.
            CheckpointError: scores are not finite.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            self._check_output(output["sem_seg"], sample)
            prediction = to_labels(output["sem_seg"], sample["file_name"])
            if self.background is not None:
                prediction = prediction.clip(max=self.background)
            sem_seg = self.labels.read(sample["sem_seg_file_name"])
            self._check(prediction, sem_seg, sample)
            self._confusion += confusion_matrix(prediction, sem_seg, len(self.class_names), self.labels.ignore_label)
            self._images += 1
            if self.save_predictions and self.output_folder:
                kind = np.uint8 if len(self.class_names) <= 256 else np.uint16
                self._writes.append(self._writer.submit(write_labels, prediction.astype(kind), self._claim(sample)))
                if len(self._writes) > MOST_WAITING:
                    self._writes.popleft().result()

    def _claim(self, sample: dict) -> Path:
        """Where the prediction for a sample goes, and for no other."""
        path = prediction_file(self.output_folder, sample)
        other = self._claimed.setdefault(path, sample["file_name"])
        if other != sample["file_name"]:
            raise DataError(
                f"the predictions for {other} and {sample['file_name']} would both be {path}: give their dataset dicts "
                "different image_id"
            )
        return path

    def _check_output(self, sem_seg: torch.Tensor, sample: dict) -> None:
        labels = sem_seg.dim() == 2 and not (sem_seg.is_floating_point() or sem_seg.is_complex())
        scores = sem_seg.dim() == 3 and (len(sem_seg) == len(self.class_names) or self.background is not None)
        if not labels and not scores:
            raise DataError(
                f"the prediction for {sample['file_name']} is {sem_seg.dtype} of shape {tuple(sem_seg.shape)}: models "
                f"give scores of {len(self.class_names)} classes (K×H×W), or integer labels (H×W)"
            )

    def _check(self, prediction: np.ndarray, sem_seg: np.ndarray, sample: dict) -> None:
        if prediction.shape != sem_seg.shape:
            raise DataError(
                f"the prediction for {sample['file_name']} is {prediction.shape[1]}x{prediction.shape[0]}, its label "
                f"file {sample['sem_seg_file_name']} {sem_seg.shape[1]}x{sem_seg.shape[0]}: prepare the labels again"
            )
        low, high = prediction.min(), prediction.max()
        if low < 0 or high >= len(self.class_names):
            raise DataError(
                f"the prediction for {sample['file_name']} names class {low if low < 0 else high} of "
                f"{len(self.class_names)}: the model's vocabulary is not the dataset's"
            )

    def evaluate(self) -> OrderedDict | None:
        """``{"sem_seg": {metric: percent}}`` over all processes; None on processes other than 0.

        Raises:
            DataError: there was no image.
        """
        while self._writes:
            self._writes.popleft().result()
        confusions, counts = comm.gather(self._confusion), comm.gather(self._images)
        if not comm.is_main_process():
            return None
        if not sum(counts):
            raise DataError("no image has been evaluated: the dataset is empty, give one with images")
        metrics = compute_metrics(sum(confusions))
        summary = summarize(metrics, self.class_groups)
        if self.output_folder:
            self._write_results(metrics, summary)
        per_class = {f"IoU-{name}": iou for name, iou in zip(self.class_names, metrics.iou.tolist(), strict=True)}
        return OrderedDict(sem_seg={**summary, **per_class})

    def _write_results(self, metrics: Metrics, summary: dict[str, float]) -> None:
        write_json(self.output_folder / "results.json", summary)
        rows, members = [], {group: set(classes) for group, classes in self.class_groups.items()}
        for index, name in enumerate(self.class_names):
            groups = " ".join(group for group, classes in members.items() if index in classes)
            numbers = [round(float(values[index]), 4) for values in (metrics.iou, metrics.accuracy)]
            rows.append([name, *finite(numbers), metrics.pixels[index], groups])
        write_csv(self.output_folder / "per_class.csv", ["class", "IoU", "accuracy", "pixels", "groups"], rows)


def write_labels(labels: np.ndarray, path: Path) -> None:
    """Write labels H×W as a PNG, whole or not at all."""
    with replacing(path) as file:
        Image.fromarray(labels).save(file, compress_level=1)  # which takes the least time


def to_labels(sem_seg: torch.Tensor, file_name: str = "the image") -> np.ndarray:
    """A model's output as H×W labels: labels stay, of K×H×W scores the best class counts.

    Raises:
        CheckpointError: the best score of a pixel is not finite.
    """
    if sem_seg.dim() == 3:
        best, sem_seg = sem_seg.max(dim=0)
        check_finite(best, f"the scores of {file_name}")
    return sem_seg.cpu().numpy()


def background_class(metadata) -> int | None:
    """The class that many names stand for (VOC-21: the last); None for datasets whose predictions mean themselves."""
    return len(metadata.stuff_classes) - 1 if metadata.get("evaluator_type") == "sem_seg_background" else None


def prediction_file(output_folder: Path, sample: dict) -> Path:
    """Where the evaluator with this output folder saves its prediction for a sample: named like the image.

    Raises:
        DataError: the sample's ``image_id`` leads out of the folder.
    """
    name = PurePath(f"{sample.get('image_id', Path(sample['file_name']).stem)}.png")
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"image_id '{sample['image_id']}' is no name for a file: give another")
    return output_folder / "predictions" / name
