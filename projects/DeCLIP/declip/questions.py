"""What a segmenter may be asked: class names, what they are set apart from, and regions.

Shape legend
    H, W  image
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from d2host.engine.errors import DataError
from declip.data.records import twice
from declip.evaluation.zero_shot.vocabulary import Vocabulary
from declip.models.templates import check_texts
from declip.segmentation import OTHER

MOST_NAMES = 5000  # of a vocabulary, synonyms included

Background = float | str | Sequence[str]
Region = Sequence[float] | np.ndarray | Tensor


def check_class_names(names: Sequence[str], most: int = MOST_NAMES) -> tuple[str, ...]:
    """Class names as a tuple.

    Raises:
        DataError: a name or synonym stands twice, there are more than ``most``, or as
            :func:`declip.models.templates.check_texts`.

    >>> check_class_names(["tv; monitor; screen", " car "])
    ('tv; monitor; screen', 'car')
    """
    stripped = tuple(name.strip() for name in check_texts(names, "class names"))
    every = Vocabulary.of(list(stripped)).names
    if len(every) > most:
        raise DataError(f"{len(every):,} class names, synonyms included, are too many: give at most {most:,}")
    if repeated := twice(every):
        raise DataError(f"these class names cannot be used, '{repeated[0][:80]}' is named twice: name each class once")
    return stripped


def with_background(names: tuple[str, ...], background: Background | None) -> tuple[tuple[str, ...], Vocabulary, float]:
    """Classes with what they are set apart from, see :meth:`declip.segmenter.Segmenter.segment`.

    Returns:
        The names of classes in the vocabulary, the vocabulary, and the probability below which pixels are of another
        class, 0 where there is none.

    Raises:
        DataError: the background is no probability and no words, or a class is called as it is.
    """
    if background is None:
        return names, Vocabulary.of(list(names)), 0.0
    if OTHER in names:
        raise DataError(f"a class is called '{OTHER}', as the background is: leave one of them out")
    if isinstance(background, int | float):
        if not 0 < background < 1:
            raise DataError(f"a background below the probability {background} cannot be: give one between 0 and 1")
        return names, Vocabulary.of(list(names)), float(background)
    words = [background] if isinstance(background, str) else check_texts(background, "words of the background")
    vocabulary = Vocabulary.of(list(check_class_names([*names, "; ".join(words)])))
    return (*names, OTHER), vocabulary, 0.0


def region_mask(region: Region, size: tuple[int, int]) -> np.ndarray:
    """A box (x0, y0, x1, y1) or a mask as H×W bool.

    Raises:
        DataError: it is neither, or holds no pixel.

    >>> region_mask((1, 0, 3, 2), (2, 4)).astype(int)
    array([[0, 1, 1, 0],
           [0, 1, 1, 0]])
    """
    given = np.asarray(region.detach().cpu() if isinstance(region, Tensor) else region)
    if given.shape == (4,) and given.dtype.kind in "uif" and np.isfinite(given).all():
        x0, y0, x1, y1 = (round(float(value)) for value in given)
        mask = np.zeros(size, dtype=bool)
        mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    elif given.shape == size and (given.dtype == bool or (given.dtype.kind in "ui" and given.max() <= 1)):
        mask = given.astype(bool)
    else:
        raise DataError(
            f"{given.dtype} of shape {given.shape} is no region of a {size[1]}x{size[0]} image: give a box (x0, y0, "
            f"x1, y1) in pixels, or a mask of {size[0]} rows and {size[1]} columns of bools"
        )
    if not mask.any():
        raise DataError(f"the region holds no pixel of the {size[1]}x{size[0]} image: give a larger one")
    return mask
