"""Records that come from outside, such as dataset dicts and the objects of COCO's JSON: which keys, and what they hold.

>>> fault_in({"id": 7, "name": ["cat"]}, {"id": IDENTIFIER, "name": TEXT})
"'name' is ['cat'], not a text"
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no name of a class or a file has: controls, and halves of surrogates, which cannot be encoded."""

MOST_PIXELS = 2**31  # of a side: nothing that is read is larger


@dataclass(frozen=True)
class Rule:
    """What a value has to be.

    Attributes:
        meaning: for messages.
        holds: whether a value is that.
        required: whether the key has to be there.
    """

    meaning: str
    holds: Callable[[Any], bool]
    required: bool = True

    def optional(self) -> "Rule":
        """The same for a key that may be missing, or None."""
        return replace(self, required=False)


def is_integer(value: Any, least: int = -(2**63), most: int = 2**63 - 1) -> bool:
    """Whether a value is a whole number, no truth value, within limits."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold, no truth value."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _is_inside(value: Any) -> bool:
    return _is_text(value) and not PurePath(value).is_absolute() and ".." not in PurePath(value).parts


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not CONTROL.search(value)


TEXT = Rule("a text", _is_text)
PATH = Rule("a path", lambda value: isinstance(value, PurePath) or _is_text(value))
INSIDE = Rule("a path below its folder", _is_inside)
IDENTIFIER = Rule("a whole number or a text", lambda value: is_integer(value) or isinstance(value, str))
FLAG = Rule("0 or 1", lambda value: isinstance(value, int) and value in (0, 1))
SIDE = Rule("a positive whole number of pixels", lambda value: is_integer(value, 1, MOST_PIXELS))
OBJECTS = Rule("a list of objects", lambda value: isinstance(value, list) and all(isinstance(v, dict) for v in value))


def fault_in(record: Any, rules: Mapping[str, Rule]) -> str:
    """What is wrong with a record; empty where nothing is. Keys without a rule may hold anything."""
    if not isinstance(record, Mapping):
        return f"{_shown(record)} stands where an object with {', '.join(rules)} is expected"
    for key, rule in rules.items():
        value = record.get(key)
        if value is None and (key not in record or not rule.required):
            if rule.required:
                return f"'{key}' is missing"
        elif not rule.holds(value):
            return f"'{key}' is {_shown(value)}, not {rule.meaning}"
    return ""


def twice(values: list) -> list:
    """The values that occur more than once, in order.

    >>> twice(["cat", "dog", "cat"])
    ['cat']
    """
    seen: set = set()
    return list(dict.fromkeys(value for value in values if value in seen or seen.add(value)))


def _shown(value: Any) -> str:
    """A value in a message, cut short; a container that is large or deep is not spelled out."""
    if isinstance(value, list | dict | tuple) and (len(value) > 8 or any(isinstance(v, list | dict) for v in value)):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
