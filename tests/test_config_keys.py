"""The keys of every program: none outside its range is accepted, none is unread, and the reference names them all."""

import ast
import math
import runpy
from pathlib import Path

import pytest
import yaml

from catseg.config import get_catseg_cfg
from catseg.keys import KEYS as SEGMENTATION
from d2host.engine.config_file import config_folders, read_config
from d2host.engine.errors import ConfigError
from d2host.engine.keys import Choice, Either, Integer, Many, Number, Row, Text, check_keys
from declip.distill.config import KEYS as DISTILLATION
from declip.distill.config import get_distillation_cfg
from fvit.config import get_fvit_cfg
from fvit.keys import KEYS as DETECTION
from nanoworld.pretraining.config import KEYS as PRETRAINING
from nanoworld.pretraining.config import get_pretraining_cfg

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "train_net": (SEGMENTATION, get_catseg_cfg),
    "train_net, FViT": (DETECTION, get_fvit_cfg),
    "train_declip": (DISTILLATION, get_distillation_cfg),
    "pretrain": (PRETRAINING, get_pretraining_cfg),
}
EVERY_KEY = [(program, name) for program, (keys, _) in PROGRAMS.items() for name in keys]


def inside(kind):
    """Values at the edges of what a kind takes."""
    match kind:
        case Integer():
            return [-(-kind.least // kind.multiple_of) * kind.multiple_of, kind.most - kind.most % kind.multiple_of]
        case Number():
            low = kind.least if kind.least > -math.inf else max(kind.above, -1e6) + 1e-6
            high = kind.most if kind.most < math.inf else min(kind.below, 1e6) - 1e-6
            return [low, high, *([1] if low <= 1 <= high else [])]
        case Text():
            return ["a", "folder/Ünïcode name.pth", *([""] if kind.empty else ())]
        case Choice():
            return list(kind.options)
        case Many():
            each = inside(kind.each)
            return [[value] * (kind.length or 1) for value in each] + ([[]] if kind.empty else [])
        case Row():
            return [[inside(place)[0] for place in kind.places]]
        case Either():
            return [value for each in kind.kinds for value in inside(each)]


def outside(kind):
    """Values of another type, range, length or choice."""
    match kind:
        case Integer():
            odd = [kind.least + 1] if kind.multiple_of > 1 else []
            return [
                None,
                True,
                "many",
                "",
                1.5,
                math.nan,
                math.inf,
                kind.least - 1,
                kind.most + 1,
                10**30,
                [1],
                {},
                *odd,
            ]
        case Number():
            beyond = [kind.least - 1e-6, kind.above, kind.most + 1e-6, kind.below]
            beyond = [value for value in beyond if math.isfinite(value)]
            return [None, True, "many", "", math.nan, math.inf, -math.inf, 10**400, [1.0], {}, *beyond]
        case Text():
            return [
                None,
                True,
                5,
                1.5,
                ["a"],
                {},
                "a\nb",
                "a\0b",
                "\ud800",
                " ",
                "a" * 5000,
                *([] if kind.empty else [""]),
            ]
        case Choice():
            return [None, 5, 1.5, "other", ["other"], {}, *(str(each) + "_" for each in kind.options), 1, 0, "true"]
        case Many():
            good = inside(kind.each)[0]
            wrong = [[each] * (kind.length or 1) for each in outside(kind.each)]
            lengths = [[good] * length for length in (1, 3, 50) if length != kind.length] if kind.length else []
            more = [[]] * (not kind.empty) + [[good, good]] * kind.distinct
            return [None, True, 5, "a", "('a'", {}, {"a": 1}, *wrong, *lengths, *more]
        case Either():
            choices, *others = kind.kinds
            return [value for each in others for value in outside(each) if value not in choices.options]
        case Row():
            good = inside(kind)[0]
            replaced = [
                [*good[:index], value, *good[index + 1 :]]
                for index, place in enumerate(kind.places)
                for value in outside(place)
            ]
            return [None, 5, "a", {}, [], good[:-1], [*good, 1], *replaced]


def write(folder, name, value):
    """A config file that sets one key."""
    for part in reversed(name.split(".")):
        value = {part: value}
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize(("program", "name"), EVERY_KEY)
def test_values_outside_what_a_key_may_be_are_refused_by_name(program, name):
    keys, read = PROGRAMS[program]
    for value in outside(keys[name].kind):
        overrides = [name, value if isinstance(value, str) else repr(value)]
        for reading, given in ((keys[name].read, (name, value)), (read, ("", overrides))):
            with pytest.raises(ConfigError, match=rf"^{name} is .*: it must be ") as refused:
                reading(*given)
            assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


@pytest.mark.parametrize(("program", "name"), EVERY_KEY)
def test_values_within_what_a_key_may_be_are_kept(program, name, tmp_path):
    keys = PROGRAMS[program][0]
    for value in [*inside(keys[name].kind), keys[name].default]:
        for source in ((write(tmp_path, name, value),), ("", [name, repr(value)])):
            node = read_config(keys, *source)
            check_keys(node, keys)
            for part in name.split("."):
                node = node[part]
            assert node == value or list(node) == list(value)
            assert not isinstance(node, list | tuple) or type(node) is type(keys[name].default)
            assert isinstance(node, list | tuple) or type(node) is type(value) or float in (type(node), type(value))


@pytest.mark.parametrize("program", PROGRAMS)
def test_defaults_keep_the_rules_between_keys_and_survive_being_written(program, tmp_path):
    cfg = PROGRAMS[program][1]()
    (tmp_path / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    assert PROGRAMS[program][1](tmp_path / "config.yaml") == cfg


def test_the_reference_is_up_to_date():
    reference = runpy.run_path(str(REPOSITORY / "tools/list_keys.py"))["reference"]()
    page = (REPOSITORY / "docs/config.md").read_text(encoding="utf-8")
    assert page == reference + "\n", "run tools/list_keys.py > docs/config.md"


@pytest.fixture(scope="module")
def words():
    """Of each module that is no declaration: the attributes it reads, and its texts in capitals."""
    found = []
    sources = [path for folder in ("d2host", "catseg", "projects") for path in (REPOSITORY / folder).rglob("*.py")]
    for path in sources:
        if path.name in ("keys.py", "config.py", "defaults.py"):
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        texts = {node.value.upper() for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        found.append(attributes | texts)
    return found


@pytest.mark.parametrize("name", sorted({name for _, name in EVERY_KEY}))
def test_every_key_is_read(name, words):
    """By a module in which all its parts stand; a key with a single choice says what is done anyway."""
    kinds = [keys[name].kind for keys, _ in PROGRAMS.values() if name in keys]
    alone = all(isinstance(kind, Choice) and len(kind.options) == 1 for kind in kinds)
    assert alone or any(set(name.split(".")) <= module for module in words)


def test_a_key_that_nobody_reads_would_be_found(words):
    assert not any({"SOLVER", "LR_SCHEDULER_NAME"} <= module for module in words)


def test_every_recipe_is_read_by_its_program():
    recipes = sorted(file for folder in config_folders() for file in folder.glob("*.yaml"))
    for file in recipes:
        program = {"distill": "train_declip", "nano": "pretrain", "fvit": "train_net, FViT"}.get(
            file.name.split("_")[0], "train_net"
        )
        PROGRAMS[program][1](file)
    assert len(recipes) >= 20
