"""Configuration keys, declared once: what each may be, its default, and what it means.

A program's keys are a mapping from dotted names to :class:`Key`. From it follow the tree with its defaults
(:func:`declare`), what is refused and in which words (:meth:`Key.read`, :func:`check_keys`), and the reference in
``docs/config.md`` (:func:`as_table`). Rules between keys are the program's own.

>>> keys = {"SOLVER.MAX_ITER": Key(40_000, Integer(least=1), "iterations of the whole training")}
>>> keys["SOLVER.MAX_ITER"].read("SOLVER.MAX_ITER", 0)
Traceback (most recent call last):
d2host.engine.errors.ConfigError: SOLVER.MAX_ITER is 0: it must be an integer from 1 to 1,000,000,000
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import reduce
from operator import getitem
from typing import TYPE_CHECKING, Any, Protocol

from d2host.engine.errors import ConfigError

if TYPE_CHECKING:
    from d2host import CfgNode

LARGEST = 10**9  # integer, where a key sets no limit of its own: what is beyond is a slip of the hand
LONGEST_TEXT, LONGEST_NAME = 4096, 255  # bytes of a path, and of each part of it, as systems have them


class Kind(Protocol):
    """What a value may be; ``str()`` says it in words."""

    def read(self, value: Any) -> Any:
        """The value as configs hold it.

        Raises:
            ValueError, OverflowError: it is none of these.
        """


@dataclass(frozen=True)
class Integer:
    """Whole numbers in a range, both ends included, and of them the multiples of a number."""

    least: int = 0
    most: int = LARGEST
    multiple_of: int = 1

    def __str__(self) -> str:
        multiples = f", a multiple of {self.multiple_of}" if self.multiple_of > 1 else ""
        return f"an integer from {self.least:,} to {self.most:,}{multiples}"

    def read(self, value: Any) -> int:
        """See :class:`Kind`."""
        if type(value) is not int or not self.least <= value <= self.most or value % self.multiple_of:
            raise ValueError
        return value


@dataclass(frozen=True)
class Number:
    """Finite numbers; ``least`` and ``most`` belong to the range, ``above`` and ``below`` do not."""

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def __str__(self) -> str:
        bounds = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        words = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound))
        return f"a finite number, {words}" if words else "a finite number"

    def read(self, value: Any) -> float:
        """See :class:`Kind`."""
        if type(value) not in (int, float):
            raise ValueError
        value = float(value)
        if not (self.least <= value <= self.most and self.above < value < self.below):
            raise ValueError
        return value


@dataclass(frozen=True)
class Text:
    """A name or a path: printable, and short enough for a file."""

    empty: bool = True  # whether it may be

    def __str__(self) -> str:
        return "a name or a path" if not self.empty else "a name, a path or empty"

    def read(self, value: Any) -> str:
        """See :class:`Kind`."""
        if not isinstance(value, str) or not value.isprintable() or len(value.encode()) > LONGEST_TEXT:
            raise ValueError
        if max(len(part.encode()) for part in value.split("/")) > LONGEST_NAME:
            raise ValueError
        if not value.strip() and (value or not self.empty):
            raise ValueError
        return value


@dataclass(frozen=True, init=False)
class Choice:
    """One of some values."""

    options: tuple[Any, ...]

    def __init__(self, *options: Any) -> None:
        object.__setattr__(self, "options", options)

    @classmethod
    def of(cls, enum: type[Enum], *more: Any) -> Choice:
        """One of an enumeration's values, or of some more."""
        return cls(*more, *(member.value for member in enum))

    def __str__(self) -> str:
        return " or ".join(filter(None, (", ".join(map(repr, self.options[:-1])), repr(self.options[-1]))))

    def read(self, value: Any) -> Any:
        """See :class:`Kind`."""
        if not any(type(value) is type(option) and value == option for option in self.options):
            raise ValueError
        return value


SWITCH = Choice(True, False)


@dataclass(frozen=True, init=False)
class Either:
    """What one of some kinds allows, the first that does."""

    kinds: tuple[Kind, ...]

    def __init__(self, *kinds: Kind) -> None:
        object.__setattr__(self, "kinds", kinds)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.kinds))

    def read(self, value: Any) -> Any:
        """See :class:`Kind`."""
        for kind in self.kinds:
            try:
                return kind.read(value)
            except (ValueError, OverflowError):
                continue
        raise ValueError


@dataclass(frozen=True)
class Many:
    """A list of values of one kind; the tree holds a list or a tuple, as the default is one.

    Attributes:
        each: what they may be.
        length: how many there have to be; None: any number.
        empty: whether there may be none.
        distinct: whether a value may occur only once.
    """

    each: Kind
    length: int | None = None
    empty: bool = False
    distinct: bool = False

    def __str__(self) -> str:
        number = f"{self.length} " if self.length else "" if self.empty else "at least 1 "
        values = "different values" if self.distinct else "values"
        return f"{'() or ' if self.empty and self.length else ''}a list of {number}{values}, each {self.each}"

    def read(self, value: Any) -> list:
        """See :class:`Kind`."""
        if not isinstance(value, list | tuple):
            raise ValueError
        wrong_length = not self.empty if not value else self.length not in (None, len(value))
        values = [self.each.read(each) for each in value]
        if wrong_length or (self.distinct and any(each in values[:index] for index, each in enumerate(values))):
            raise ValueError
        return values


@dataclass(frozen=True, init=False)
class Row:
    """A list with a kind for each place."""

    places: tuple[Kind, ...]

    def __init__(self, *places: Kind) -> None:
        object.__setattr__(self, "places", places)

    def __str__(self) -> str:
        return f"a list of {len(self.places)} ({'; '.join(map(str, self.places))})"

    def read(self, value: Any) -> list:
        """See :class:`Kind`."""
        if not isinstance(value, list | tuple):
            raise ValueError
        return [place.read(each) for place, each in zip(self.places, value, strict=True)]


@dataclass(frozen=True)
class Key:
    """One key of a configuration.

    Attributes:
        default: its value where nothing is said.
        kind: what it may be.
        meaning: in words, for the reference.
    """

    default: Any
    kind: Kind
    meaning: str

    def read(self, name: str, value: Any) -> Any:
        """The value as the tree holds it.

        Raises:
            ConfigError: naming the key, the value, and what it may be.
        """
        try:
            value = self.kind.read(value)
        except (ValueError, OverflowError):
            raise ConfigError(f"{name} is {shown(value)}: it must be {self.kind}") from None
        return type(self.default)(value) if isinstance(self.default, list | tuple) else value


Keys = Mapping[str, Key]
"""Dotted name → key."""


def shown(value: Any) -> str:
    """A value in a message, no longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no integer of more than some thousand digits
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def group(name: str, /, **keys: Key) -> dict[str, Key]:
    """Keys of one group, by dotted name.

    >>> [*group("TEST.AMP", ENABLED=Key(False, SWITCH, "mixed precision"))]
    ['TEST.AMP.ENABLED']
    """
    return {f"{name}.{leaf}": key for leaf, key in keys.items()}


def with_defaults(keys: Keys, defaults: Mapping[str, Any]) -> dict[str, Key]:
    """The keys with defaults of a program's own, by name."""
    return {**keys, **{name: replace(keys[name], default=default) for name, default in defaults.items()}}


def declare(cfg: CfgNode, keys: Keys, values: Mapping[str, Any] | None = None) -> None:
    """Set every key in a tree, empty or a host's, in place: its value where there is one, else its default."""
    values = values or {}
    for name, key in keys.items():
        *groups, leaf = name.split(".")
        node = cfg
        for group in groups:
            node = node.setdefault(group, type(cfg)())
        node[leaf] = copy.deepcopy(values.get(name, key.default))


def check_keys(cfg: CfgNode, keys: Keys) -> None:
    """Refuse a tree in which a key is not what it may be, however it was filled.

    Raises:
        ConfigError: naming the key, the value, and what it may be.
    """
    for name, key in keys.items():
        try:
            value = reduce(getitem, name.split("."), cfg)
        except (KeyError, TypeError):
            raise ConfigError(f"{name} is missing: it must be {key.kind}") from None
        key.read(name, value)


def as_table(keys: Keys) -> str:
    """The reference of the keys, a Markdown table.

    >>> print(as_table({"SEED": Key(0, Integer(most=9), "of the run")}))
    | key | default | may be | meaning |
    |:---|:---|:---|:---|
    | `SEED` | `0` | an integer from 0 to 9 | of the run |
    """
    rows = [f"| `{name}` | `{key.default!r}` | {key.kind} | {key.meaning} |" for name, key in keys.items()]
    return "\n".join(["| key | default | may be | meaning |", "|:---|:---|:---|:---|", *rows])
