"""Datasets by name, and what is known about them."""

import difflib
from collections import UserDict
from collections.abc import Callable
from typing import Any


class _DatasetCatalog(UserDict):
    """Names → functions that return a list of dataset dicts; nothing is read before :meth:`get`."""

    def register(self, name: str, func: Callable[[], list[dict]]) -> None:
        """Register a dataset; a name can be taken only once."""
        assert callable(func), "a dataset is registered with a function that loads it"
        assert name not in self, f"dataset '{name}' is already registered"
        self[name] = func

    def get(self, name: str) -> list[dict]:
        """Load a dataset; an unknown name raises a KeyError that lists the closest ones."""
        if name not in self:
            close = difflib.get_close_matches(name, self, n=5, cutoff=0.4) or sorted(self)
            raise KeyError(f"dataset '{name}' is not registered; registered are, among others: {', '.join(close)}")
        return self[name]()

    def list(self) -> list[str]:
        """All names."""
        return list(self)

    def remove(self, name: str) -> None:
        """Forget a dataset."""
        self.pop(name)


class Metadata:
    """Facts about one dataset as attributes; a fact once set keeps its value."""

    def __init__(self, name: str) -> None:
        self.__dict__["name"] = name

    def __setattr__(self, key: str, value: Any) -> None:
        old = self.__dict__.setdefault(key, value)
        assert old == value, f"metadata '{key}' of '{self.name}' is already {old!r}, not {value!r}"

    def __getattr__(self, key: str) -> Any:
        known = ", ".join(sorted(self.__dict__))
        raise AttributeError(f"dataset '{self.name}' has no metadata '{key}'; it has {known}")

    def set(self, **kwargs: Any) -> "Metadata":
        """Set several facts."""
        for key, value in kwargs.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """A fact, or ``default``."""
        return self.__dict__.get(key, default)

    def as_dict(self) -> dict[str, Any]:
        """All facts."""
        return dict(self.__dict__)


class _MetadataCatalog(UserDict):
    """Names → :class:`Metadata`, created when first asked for."""

    def get(self, name: str) -> Metadata:
        """The metadata of a dataset, whether or not it is registered yet."""
        assert name, "metadata needs a dataset name"
        return self.setdefault(name, Metadata(name))

    def list(self) -> list[str]:
        """All names."""
        return list(self)

    def remove(self, name: str) -> None:
        """Forget a dataset's metadata."""
        self.pop(name)


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
