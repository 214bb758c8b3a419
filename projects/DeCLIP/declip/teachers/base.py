"""What every teacher has in common: it is shown views of images, and it never learns.

Shape legend
    B     images of one grid    K  crops of all the images    c  side of the crops, pixels
    h, w  their grid            p, q  patch sizes of the student and of the foundation model
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from declip.teachers.targets import Target


@dataclass(frozen=True)
class Views:
    """Images of one grid as student and teachers see them: RGB in 0..255, floating point, on one device.

    Attributes:
        student: B×3×(h*p)×(w*p).
        foundation: B×3×(h*q)×(w*q); None: no foundation model looks.
        crops: K×3×c×c; None: no CLIP looks.
        boxes: per image K_i×4 (x0, y0, x1, y1), what its crops show, in pixels of the student's view.
        diffusion: B×3×(h*d)×(w*d), d pixels per token; None: no diffusion model looks.
        digests: a text per image that stands for that view of it.
    """

    student: Tensor
    foundation: Tensor | None = None
    crops: Tensor | None = None
    boxes: tuple[Tensor, ...] = ()
    diffusion: Tensor | None = None
    digests: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.student)


class FrozenTeacher(nn.Module, ABC):
    """A model that teaches: it stays in evaluation mode, and subclasses freeze its parameters.

    Attributes:
        gives: the kind of target it gives.
    """

    gives: ClassVar[type[Target]]

    @abstractmethod
    def teach(self, views: Views) -> Target:
        """What it says about images."""

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """A teacher stays in evaluation mode."""
        return super().train(False)
