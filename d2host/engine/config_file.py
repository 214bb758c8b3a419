"""Reading configs: by path or bare name, with overrides, and one sentence where something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from d2host.engine.errors import ConfigError

if TYPE_CHECKING:
    from d2host import CfgNode

GROUP = "d2host.configs"  # entry points that name packages of recipes


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
        if path.is_file():
            return path
    known = ", ".join(sorted(path.name for folder in config_folders() for path in folder.glob("*.yaml")))
    raise ConfigError(f"config file {given} does not exist: give a path, or one of {known}")


def read_config(
    add_config: Callable[[CfgNode], None], config_file: str | Path, opts: Sequence[str], keys_in: str
) -> CfgNode:
    """A program's configuration: the keys it declares and no others, whatever the host's own tree holds.

    Args:
        add_config: declares the program's keys with their defaults in a tree, in place.
        config_file: a path, or the bare name of a recipe; empty: the defaults.
        opts: ``KEY VALUE`` pairs.
        keys_in: the module that explains every key, for messages.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a value of the wrong type.
    """
    from d2host import CfgNode

    cfg = CfgNode()
    add_config(cfg)
    merge_config(cfg, config_file, opts, keys_in)
    return cfg


def merge_config(cfg: CfgNode, config_file: str | Path, opts: Sequence[str], keys_in: str) -> None:
    """Merge a file (empty: none) and ``KEY VALUE`` overrides into ``cfg``, in place.

    Args:
        keys_in: the module that explains every key, for messages.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a value of the wrong type.
    """
    if config_file:
        path = find_config(config_file)
        _merge(lambda: cfg.merge_from_file(str(path)), f"config file {path}", keys_in)
    misplaced = [option for option in opts if option.startswith("--")]
    if misplaced:
        raise ConfigError(f"'{misplaced[0]}' stands among the KEY VALUE overrides: options come before them")
    if len(opts) % 2:
        raise ConfigError(f"overrides come as KEY VALUE pairs, but '{opts[-1]}' stands alone: {' '.join(opts)}")
    _merge(lambda: cfg.merge_from_list(list(opts)), "the overrides on the command line", keys_in)


def check_choices(choices: dict[str, tuple[str, Sequence[str]]]) -> None:
    """Refuse values that are not among those known.

    Args:
        choices: key → (its value, the values it may have).

    Raises:
        ConfigError: naming the key and what it may be.
    """
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise ConfigError(f"{key} '{value}' is unknown: choose one of {', '.join(map(repr, allowed))}")


def check_at_least(minimum: float, values: dict[str, float]) -> None:
    """Refuse values below ``minimum``; ``values`` by key.

    Raises:
        ConfigError: naming the key.
    """
    for key, value in values.items():
        if value < minimum:
            raise ConfigError(f"{key} is {value}: it must be at least {minimum}")


def _merge(merge: Callable[[], None], source: str, keys_in: str) -> None:
    try:
        merge()
    except (KeyError, ValueError, AssertionError, yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split())
        raise ConfigError(f"{source} cannot be used: {reason} (every key stands in {keys_in})") from error
