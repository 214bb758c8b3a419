"""What every loss of a distillation has in common: a feature of the student, and what teachers say about it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType, UnionType
from typing import NamedTuple

from torch import Tensor, nn

from declip.models.features import DenseFeatures
from declip.teachers.targets import Target


class StudentFeature(str, Enum):
    """The features of the decoupled last block."""

    CONTENT = "content"  # what each token means (Eq. 5)
    CONTEXT = "context"  # which tokens belong together (Eq. 4)


class TermLoss(NamedTuple):
    """What a term of a distillation gives for some images.

    Attributes:
        value: the loss, a scalar.
        measures: what else there is to log, by name: scalars, means over images, without gradients.
    """

    value: Tensor
    measures: Mapping[str, Tensor] = MappingProxyType({})


class DistillationLoss(nn.Module, ABC):
    """How far one feature of the student is from what teachers say: a mean over images of a mean within the image.

    So neither how finely an image is divided nor how a batch is split over processes changes its weight.

    Attributes:
        feature: what it reads of the student; only what that depends on can learn.
        needs: the kind of each target it is called with.
    """

    feature: StudentFeature
    needs: tuple[type[Target] | UnionType, ...]

    @abstractmethod
    def forward(self, features: DenseFeatures, *targets: Target) -> TermLoss:
        """The loss of images.

        Args:
            features: of the student.
            targets: of the kinds that ``needs`` lists.
        """


ENTROPIES = ("entropy_student", "entropy_teacher")


def entropy_shares(entropies: Tensor, length: int) -> Tensor:
    """Entropies in nats as shares of that of the uniform distribution over ``length``, in [0, 1].

    Near 1 a row says nothing, near 0 it knows one token alone: a temperature is well chosen in between.
    """
    return entropies / math.log(max(length, 2))
