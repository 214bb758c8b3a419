"""What every loss of a distillation has in common: a feature of the student, and what teachers say about it."""

from abc import ABC, abstractmethod
from enum import Enum
from types import UnionType

from torch import Tensor, nn

from declip.models.features import DenseFeatures
from declip.teachers.targets import Target


class StudentFeature(str, Enum):
    """The features of the decoupled last block."""

    CONTENT = "content"  # what each token means (Eq. 5)
    CONTEXT = "context"  # which tokens belong together (Eq. 4)


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
    def forward(self, features: DenseFeatures, *targets: Target) -> Tensor:
        """The loss of images, a scalar.

        Args:
            features: of the student.
            targets: of the kinds that ``needs`` lists.
        """
