"""Objects of one image, and what is known of each, by name."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


class Instances:
    """Objects of one image and their fields, each of one length: ``instances.scores``, ``instances.pred_boxes``, ...

    Args:
        image_size: height, width.
        kwargs: fields to begin with.

    >>> from d2host import Boxes, Instances
    >>> instances = Instances((480, 640), scores=torch.tensor([0.9, 0.2]), pred_boxes=Boxes(torch.rand(2, 4)))
    >>> confident = instances[instances.scores > 0.5]
    >>> len(confident), len(confident.pred_boxes), confident.image_size
    (1, 1, (480, 640))
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        self.__dict__.update(_image_size=image_size, _fields={})
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height, width."""
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", {})
        if name not in fields:
            raise AttributeError(f"these instances have no field '{name}'; they have {', '.join(fields) or 'none'}")
        return fields[name]

    def set(self, name: str, value: Any) -> None:
        """Set a field, of as many entries as the others have.

        Raises:
            AssertionError: it has more or fewer.
        """
        assert not self._fields or len(value) == len(self), f"'{name}' has {len(value)} entries, not {len(self)}"
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Whether there is a field."""
        return name in self._fields

    def remove(self, name: str) -> None:
        """Forget a field."""
        del self._fields[name]

    def get(self, name: str) -> Any:
        """A field."""
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """All fields by name."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """The objects with every field that can be on another device (or of another type)."""
        moved = {
            name: value.to(*args, **kwargs) if hasattr(value, "to") else value for name, value in self._fields.items()
        }
        return Instances(self.image_size, **moved)

    def __getitem__(self, item: int | slice | Tensor) -> "Instances":
        if isinstance(item, int):
            if not -len(self) <= item < len(self):
                raise IndexError(f"object {item} of {len(self)}")
            item = slice(item, item + 1 or None)
        return Instances(self.image_size, **{name: value[item] for name, value in self._fields.items()})

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("instances without a field have no length")

    def __iter__(self) -> Iterator["Instances"]:
        raise NotImplementedError("instances are not iterated over: index them, or iterate over a field")

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}: {value!r}" for name, value in self._fields.items())
        return f"Instances({self._image_size[0]}x{self._image_size[1]}, {fields})"

    @staticmethod
    def cat(instance_lists: Sequence["Instances"]) -> "Instances":
        """The objects of several lists of one image, which have the same fields."""
        first = instance_lists[0]
        joined = Instances(first.image_size)
        for name, value in first.get_fields().items():
            values = [instances.get(name) for instances in instance_lists]
            if isinstance(value, Tensor):
                joined.set(name, torch.cat(values))
            elif isinstance(value, list):
                joined.set(name, [entry for entries in values for entry in entries])
            else:
                joined.set(name, type(value).cat(values))
        return joined
