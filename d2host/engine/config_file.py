"""Reading configs: by path or bare name, with overrides, and one sentence where something is wrong."""

from __future__ import annotations

import os
from ast import literal_eval
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from d2host.engine.errors import ConfigError
from d2host.engine.keys import LONGEST_TEXT, Keys, declare, shown

if TYPE_CHECKING:
    from d2host import CfgNode

GROUP = "d2host.configs"  # entry points that name packages of recipes
BASE = "_BASE_"  # in a file: the file, or the files, whose values count where it says nothing
LARGEST_FILE = 2**16  # bytes
DEEPEST_BASE = 32  # files that lead from one to another


def config_folders() -> list[Path]:
    """The folders of recipes that installed packages bring (entry points of the group ``d2host.configs``)."""
    packages = sorted({entry.value for entry in entry_points(group=GROUP)})
    return [Path(str(files(package))) for package in packages]


def find_config(config_file: str | Path) -> Path:
    """The path of a config: as given, or by bare name among the recipes of installed packages.

    Raises:
        ConfigError: there is none.
    """
    given = Path(config_file)
    folders = config_folders() if given.name == str(given) else []
    for path in (given, *(folder / given for folder in folders)):
        if os.path.isfile(path):
            return path
    known = ", ".join(sorted(path.name for folder in config_folders() for path in folder.glob("*.yaml")))
    raise ConfigError(f"config file {shown(str(given))[1:-1]} does not exist: give a path, or one of {known}")


def read_config(keys: Keys, config_file: str | Path = "", opts: Sequence[str] = ()) -> CfgNode:
    """A program's configuration: the keys it declares and no others, whatever the host's own tree holds.

    Args:
        keys: that the program declares.
        config_file: a path, or the bare name of a recipe; empty: the defaults.
        opts: ``KEY VALUE`` pairs, which count more than the file.

    Raises:
        ConfigError: the file is missing or no config, a key is unknown, or a value not what it may be.
    """
    from d2host import CfgNode

    values = _read_file(find_config(config_file), keys, {}, ()) if config_file else {}
    cfg = CfgNode()
    declare(cfg, keys, {**values, **_read_overrides(opts, keys)})
    return cfg


def peek_key(name: str, config_file: str | Path = "", opts: Sequence[str] = (), default: Any = None) -> Any:
    """A key's value, before it is known which program's keys the file and the overrides hold.

    Args:
        name: dotted.
        config_file, opts: as of :func:`read_config`.
        default: where neither says anything.

    Raises:
        ConfigError: a file is missing or no config.
    """
    overrides = dict(zip(opts[::2], opts[1::2], strict=False))
    if name in overrides:
        return decode(overrides[name])
    files, seen = [find_config(config_file)] if config_file else [], set()
    while files:  # depth first, bases named last first: the order in which values count
        path = files.pop(0).resolve()
        if path in seen:
            continue
        seen.add(path)
        content = node = read_yaml(path)
        for part in name.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if node is not None:
            return decode(node)
        bases = content.get(BASE, [])
        bases = [path.parent / str(base) for base in reversed(bases if isinstance(bases, list) else [bases])]
        files = [base for base in bases if os.path.isfile(base)] + files
    return default


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a YAML file that holds keys and values.

    Raises:
        ConfigError: it cannot be read, is too large, or is anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from error
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"config file {path} is larger than {LARGEST_FILE} bytes: give a config")
    try:
        values = yaml.load(content, _Loader)  # a SafeLoader: it makes nothing but plain values
    except RecursionError:
        raise ConfigError(f"config file {path} is nested too deeply: give a config") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:  # PyYAML's, of odd tags
        raise ConfigError(f"config file {path} is no YAML that can be used: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"config file {path} holds {shown(values)}: it must hold keys and values, such as 'SEED: 1'")
    return values


def _read_file(path: Path, keys: Keys, known: dict[Path, dict[str, Any]], chain: tuple[Path, ...]) -> dict[str, Any]:
    """Values by dotted name, those of the file's bases included.

    Args:
        known: what files have been found to hold, filled here.
        chain: the files that led to this one.
    """
    path = path.resolve()
    if path in chain or len(chain) == DEEPEST_BASE:
        names = " -> ".join(file.name for file in (*chain, path)[-4:])
        raise ConfigError(f"config files name each other as {BASE} without end: {names}")
    if path not in known:
        content = read_yaml(path)
        bases = content.pop(BASE, [])
        values: dict[str, Any] = {}
        for base in bases if isinstance(bases, list) else [bases]:
            file = path.parent / os.path.expanduser(base) if isinstance(base, str) else path.parent
            if not os.path.isfile(file):
                raise ConfigError(f"config file {path}: {BASE} is {shown(base)}: it must be the path of a config file")
            values |= _read_file(file, keys, known, (*chain, path))
        try:
            known[path] = values | _flatten(content, keys, "")
        except ConfigError as error:
            raise ConfigError(f"config file {path}: {error}") from error
    return known[path]


def _flatten(content: Mapping[Any, Any], keys: Keys, prefix: str) -> dict[str, Any]:
    """A tree of a file as values by dotted name."""
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if not isinstance(key, str) or "." in key or not (name in keys or _is_group(name, keys)):
            raise _unknown(name, keys)
        if name in keys:
            values[name] = keys[name].read(name, decode(value))
        elif isinstance(value, dict):
            values |= _flatten(value, keys, f"{name}.")
        else:
            raise ConfigError(f"{name} is {shown(value)}: it must hold keys and values, such as {_member(name, keys)}")
    return values


def _read_overrides(opts: Sequence[str], keys: Keys) -> dict[str, Any]:
    """``KEY VALUE`` pairs as values by dotted name."""
    misplaced = [option for option in opts if option.startswith("--")]
    if misplaced:
        raise ConfigError(f"{shown(misplaced[0])} stands among the KEY VALUE overrides: options come before them")
    if len(opts) % 2:
        raise ConfigError(f"overrides come as KEY VALUE pairs, but {shown(opts[-1])} stands alone")
    values = {}
    for name, value in zip(opts[::2], opts[1::2], strict=True):
        if _is_group(name, keys):
            raise ConfigError(f"{name} is a group of keys: name one of them, such as {_member(name, keys)}")
        if name not in keys:
            raise _unknown(name, keys)
        values[name] = keys[name].read(name, decode(value))
    return values


def decode(value: Any) -> Any:
    """What a text means in a config, as Detectron2 has it: a Python literal where it is one, else itself.

    >>> decode("(384, 512)"), decode("1e-4"), decode("output/run")
    ((384, 512), 0.0001, 'output/run')
    """
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        return value
    try:
        return literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # of texts that are no literals
        return value


def _unknown(name: str, keys: Keys) -> ConfigError:
    close = get_close_matches(name[:100], keys, n=1)
    hint = f"did you mean {close[0]}?" if close else "check its spelling"
    return ConfigError(f"{shown(name)[1:-1]} is not a key of this program: {hint} (docs/config.md lists all keys)")


def _is_group(name: str, keys: Keys) -> bool:
    return any(key.startswith(f"{name}.") for key in keys)


def _member(group: str, keys: Keys) -> str:
    return next(key for key in keys if key.startswith(f"{group}."))


class _Loader(yaml.SafeLoader):
    """Without aliases, a few lines of which can stand for more values than memory holds, and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported: write the value", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{shown(key.value)} occurs twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
