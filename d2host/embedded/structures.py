"""Where objects of one image are: boxes and bit masks.

Sizes are (height, width) in pixels; boxes are corners x0, y0, x1, y1 in pixels, right and lower edges excluded.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision import ops


class BoxMode(IntEnum):
    """How four numbers describe a box; the values are Detectron2's."""

    XYXY_ABS = 0
    XYWH_ABS = 1

    @staticmethod
    def convert(box, from_mode: "BoxMode", to_mode: "BoxMode"):
        """Boxes in another mode and of the same type: an N×4 or 4 tensor or array, or a list or tuple of 4.

        >>> BoxMode.convert([10, 20, 5, 5], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        [10, 20, 15, 25]
        """
        names = {BoxMode.XYXY_ABS: "xyxy", BoxMode.XYWH_ABS: "xywh"}
        if from_mode == to_mode:
            return box
        boxes = torch.as_tensor(box)
        converted = ops.box_convert(boxes.reshape(-1, 4), names[from_mode], names[to_mode]).reshape(boxes.shape)
        if isinstance(box, Tensor):
            return converted
        return converted.numpy() if isinstance(box, np.ndarray) else type(box)(converted.tolist())


class Boxes:
    """N boxes.

    Args:
        tensor: N×4 corners.
    """

    def __init__(self, tensor: Tensor) -> None:
        tensor = torch.as_tensor(tensor, dtype=torch.float32)
        self.tensor = tensor.reshape(-1, 4) if tensor.numel() == 0 else tensor
        assert self.tensor.dim() == 2 and self.tensor.shape[1] == 4, f"boxes are N×4, not {tuple(tensor.shape)}"

    def clone(self) -> "Boxes":
        """Copies of the boxes."""
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device | str) -> "Boxes":
        """The boxes on a device."""
        return Boxes(self.tensor.to(device=device))

    def area(self) -> Tensor:
        """N areas, pixels."""
        return ops.box_area(self.tensor)

    def clip(self, box_size: tuple[int, int]) -> None:
        """Cut what lies outside an image of that size, in place.

        Raises:
            AssertionError: a box is not finite.
        """
        assert torch.isfinite(self.tensor).all(), "boxes are not finite"
        self.tensor = ops.clip_boxes_to_image(self.tensor, box_size)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Which boxes are wider and higher than a threshold in pixels, N bool."""
        return (self.tensor[:, 2:] - self.tensor[:, :2] > threshold).all(dim=1)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """Which boxes lie within an image of that size and a margin around it, N bool."""
        height, width = box_size
        corner = self.tensor.new_tensor([width, height]) + boundary_threshold
        return (self.tensor[:, :2] >= -boundary_threshold).all(dim=1) & (self.tensor[:, 2:] < corner).all(dim=1)

    def get_centers(self) -> Tensor:
        """N×2 x, y."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply coordinates, in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    def __getitem__(self, item: int | slice | Tensor) -> "Boxes":
        return Boxes(self.tensor[item].reshape(-1, 4))

    def __len__(self) -> int:
        return len(self.tensor)

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.tensor

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"

    @property
    def device(self) -> torch.device:
        """Where the boxes are."""
        return self.tensor.device

    @classmethod
    def cat(cls, boxes_list: Sequence["Boxes"]) -> "Boxes":
        """All boxes of several lists of them; of none, no boxes."""
        return cls(torch.cat([boxes.tensor for boxes in boxes_list]) if boxes_list else torch.empty(0, 4))


class BitMasks:
    """N masks of one image.

    Args:
        tensor: N×H×W, taken as bool.
    """

    def __init__(self, tensor: Tensor | np.ndarray) -> None:
        self.tensor = torch.as_tensor(tensor).to(torch.bool)
        assert self.tensor.dim() == 3, f"masks are N×H×W, not {tuple(self.tensor.shape)}"
        self.image_size = tuple(self.tensor.shape[1:])

    @staticmethod
    def from_polygon_masks(polygon_masks: Sequence[Sequence[Any]], height: int, width: int) -> "BitMasks":
        """Masks of N objects given as polygons, each a flat list x0, y0, x1, y1, ... in pixels."""
        masks = np.zeros((len(polygon_masks), height, width), dtype=bool)
        for mask, polygons in zip(masks, polygon_masks, strict=True):
            parts = coco_mask.frPyObjects([np.asarray(polygon).tolist() for polygon in polygons], height, width)
            mask[:] = coco_mask.decode(coco_mask.merge(parts))
        return BitMasks(masks)

    def to(self, device: torch.device | str) -> "BitMasks":
        """The masks on a device."""
        return BitMasks(self.tensor.to(device))

    def nonempty(self) -> Tensor:
        """Which masks have a pixel, N bool."""
        return self.tensor.flatten(1).any(dim=1)

    def get_bounding_boxes(self) -> Boxes:
        """The least box around each mask; all zeros where it is empty."""
        boxes = torch.zeros(len(self), 4)
        for column, along in ((0, 1), (1, 2)):  # x: any pixel over the rows; y: over the columns
            hits = self.tensor.any(dim=along)
            steps = torch.arange(hits.shape[1], device=self.device)
            boxes[:, column] = hits.int().argmax(dim=1)
            boxes[:, column + 2] = torch.where(hits, steps + 1, 0).amax(dim=1)
        return Boxes(boxes)

    def __getitem__(self, item: int | slice | Tensor) -> "BitMasks":
        return BitMasks(self.tensor[item].reshape(-1, *self.image_size))

    def __len__(self) -> int:
        return len(self.tensor)

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.tensor

    def __repr__(self) -> str:
        return f"BitMasks({len(self)} of {self.image_size[0]}x{self.image_size[1]})"

    @property
    def device(self) -> torch.device:
        """Where the masks are."""
        return self.tensor.device

    @staticmethod
    def cat(bitmasks_list: Sequence["BitMasks"]) -> "BitMasks":
        """All masks of several lists of them, of one image size."""
        return BitMasks(torch.cat([masks.tensor for masks in bitmasks_list]))
