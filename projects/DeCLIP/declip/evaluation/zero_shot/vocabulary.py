"""The names that stand for the classes of a dataset in zero-shot evaluation."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from d2host.engine.errors import DataError
from declip.data.benchmarks import FOLDER_DATASETS
from declip.data.class_lists import CLASS_LISTS, load_class_list
from declip.data.datasets import class_names
from declip.models.templates import check_texts

BACKGROUND = "background"


@dataclass(frozen=True)
class Vocabulary:
    """Names of classes.

    Attributes:
        synonyms: per class, in label order, one name or more; the best of them counts.
    """

    synonyms: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> list[str]:
        """All names, class by class."""
        return [name for names in self.synonyms for name in names]

    @property
    def owners(self) -> list[int]:
        """The class of each of :attr:`names`."""
        return [index for index, names in enumerate(self.synonyms) for _ in names]

    @property
    def background(self) -> int | None:
        """The class called background, which pixels of no confident class belong to; None where there is none."""
        found = [index for index, names in enumerate(self.synonyms) if names == (BACKGROUND,)]
        return found[0] if found else None

    def best(self, scores: Tensor) -> Tensor:
        """Scores of all names N×... → those of each class's best name, T×..."""
        return torch.stack([each.amax(dim=0) for each in scores.split([len(names) for names in self.synonyms])])

    @classmethod
    def of(cls, lines: list[str]) -> "Vocabulary":
        """From lines of a class list: names separated by ``;`` or ``,``.

        Raises:
            DataError: a line holds no name, or is none that a text tower takes.
        """
        lines = check_texts(lines, "class names")
        synonyms = [tuple(name.strip() for name in re.split("[;,]", line) if name.strip()) for line in lines]
        if not all(synonyms):
            raise DataError(f"class '{lines[synonyms.index(())]}' has no name: write one")
        return cls(tuple(synonyms))


def zero_shot_vocabulary(dataset_name: str) -> Vocabulary:
    """The protocol's own names for a registered dataset, or else the dataset's class list.

    Raises:
        DataError: the dataset is unknown, or the protocol's list is of another length.
    """
    classes = list(class_names(dataset_name))
    dataset = FOLDER_DATASETS.get(dataset_name)
    path = CLASS_LISTS / "zero_shot" / f"{dataset.classes}.txt" if dataset else None
    if path is None or not path.is_file():
        return Vocabulary.of(classes)
    names = load_class_list(path)
    if len(names) != len(classes):
        raise DataError(f"{path} names {len(names)} classes, dataset '{dataset_name}' has {len(classes)}: align them")
    return Vocabulary.of(names)
