"""What every region was taken for, in a file that the processes of a run write together."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from torch import Tensor

from d2host import comm
from d2host.engine.atomic import replacing
from declip.evaluation.regions.classify import Kind


class Predictions:
    """A line of JSON for each region of an image, seen at a side by a kind of feature.

    A line has ``features``, ``side``, ``image``, ``segment_id``, ``label``, ``prediction`` and ``top5``: names and
    scores, the best first.

    Args:
        class_names: of the regions.
        file: that lines go to; None on processes other than 0.
    """

    def __init__(self, class_names: Sequence[str], file: TextIO | None) -> None:
        self.class_names, self.file = class_names, file
        self._lines: list[str] = []

    def add(self, side: int, kind: Kind, sample: dict, scores: Tensor) -> None:
        """Take the regions of an image.

        Args:
            side: of the image as the encoder saw it, pixels.
            kind: of feature.
            sample: the image: ``file_name``, K ``labels`` and ``segment_ids``.
            scores: K×T.
        """
        scores = scores.float().cpu()
        best = scores.topk(min(5, scores.shape[1])).indices.tolist()
        regions = zip(sample["segment_ids"].tolist(), sample["labels"].tolist(), strict=True)
        for row, (segment, label) in enumerate(regions):
            top = [[self.class_names[index], round(scores[row, index].item(), 6)] for index in best[row]]
            line = {"features": kind.in_words, "side": side, "image": sample["file_name"], "segment_id": segment}
            line |= {"label": self.class_names[label], "prediction": top[0][0], "top5": top}
            self._lines.append(json.dumps(line, ensure_ascii=False) + "\n")

    def write(self) -> None:
        """Write what all processes have taken since the last time; each of them has to call this."""
        shares = comm.gather(self._lines)
        if self.file:
            for lines in shares:
                self.file.writelines(lines)
        self._lines = []


@contextmanager
def saved_predictions(path: Path, class_names: Sequence[str]) -> Iterator[Predictions]:
    """Predictions whose file is there, whole, when the block has ended without an error."""
    if not comm.is_main_process():
        yield Predictions(class_names, None)
        return
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        yield Predictions(class_names, file)
