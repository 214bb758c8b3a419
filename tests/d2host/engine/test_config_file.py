"""Config files of every shape: keys and values are read, anything else is one sentence that names the file."""

import os
import time

import pytest

from d2host.engine.config_file import LARGEST_FILE, decode, find_config, peek_key, read_config
from d2host.engine.errors import ConfigError
from d2host.engine.keys import SWITCH, Integer, Key, Many, Text, group

KEYS = {
    "SEED": Key(0, Integer(most=99), "a number"),
    **group("MODEL", NAME=Key("none", Text(), "a name"), SIZES=Key((1,), Many(Integer()), "numbers")),
    "MODEL.HEAD.ENABLED": Key(False, SWITCH, "a switch"),
}


def read(path, *opts):
    return read_config(KEYS, path, opts)


def doubling(levels, first, line):
    """YAML in which every line names the one before ten times."""
    return "\n".join([first, *(line.format(k, ", ".join([f"*a{k - 1}"] * 10)) for k in range(1, levels))])


ODD = {
    "empty": "",
    "a comment": "# nothing",
    "null": "null",
    "a list": "- 1\n- 2\n",
    "a text": "SEED 1",
    "a number": "5",
    "two documents": "SEED: 1\n---\nSEED: 2\n",
    "no YAML": "MODEL: [unclosed\n",
    "tabs": "MODEL:\n\tNAME: a\n",
    "undecodable": b"\xff\xfe\xff",
    "Latin-1": "MODEL: {NAME: caf\xe9}".encode("latin-1"),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "zeros": bytes(1000),
    "large": b"# " + b"x" * LARGEST_FILE,
    "many values": "SEED: [" + "1," * 10_000 + "1]",
    "deep lists": "SEED: " + "[" * 5_000,
    "deep maps": "".join(f"{' ' * k}a:\n" for k in range(600)),
    "deep in one line": "{a: " * 5000 + "1" + "}" * 5000,
    "aliases": "SEED: &a 1\nMODEL: {SIZES: [*a]}\n",
    "exploding aliases": doubling(30, "a0: &a0 [1]", "a{0}: &a{0} [{1}]"),
    "exploding merges": doubling(30, "a0: &a0 {k: 1}", "a{0}: &a{0} {{<<: [{1}]}}"),
    "an alias of itself": "MODEL: &a {MODEL: *a}",
    "code": "MODEL: {NAME: !!python/object/apply:os.getcwd []}",
    "an unknown tag": "SEED: !number 5",
    "a repeated key": "SEED: 1\nSEED: 2\n",
    "a repeated key within": "MODEL: {NAME: a, NAME: b}",
    "an unknown key": "SEEDS: 1",
    "an unknown group": "MODELS: {NAME: a}",
    "a number as key": "1: 2",
    "nothing as key": "null: 2",
    "a list as key": "[1, 2]: 3",
    "a map as key": "{a: 1}: 3",
    "a dotted key": "MODEL.NAME: a",
    "a group without keys": "MODEL:",
    "a group that is a value": "MODEL: nano",
    "a group that is a list": "MODEL: [NAME]",
    "a value that is a group": "SEED: {NAME: 1}",
    "a value of another type": "SEED: one",
    "nothing as value": "SEED:",
    "a huge number": "SEED: 0x" + "f" * 10_000,
    "a date": "MODEL: {NAME: 2024-01-01}",
    **{
        f"an odd {tag}": f"SEED: !!{tag} {value}"
        for tag in (
            "int",
            "float",
            "bool",
            "timestamp",
            "binary",
            "set",
            "omap",
            "pairs",
            "null",
            "map",
            "seq",
            "merge",
        )
        for value in ("''", "abc", "[1]", "{a: b}")
    },
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_no_config_is_refused_by_name(case, tmp_path):
    content = ODD[case]
    file = tmp_path / "odd.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.process_time()
    with pytest.raises(ConfigError, match=r"^config file .*odd\.yaml") as refused:
        read(file)
    assert time.process_time() - started < 5
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500 + len(str(file))


BASES = {
    "itself": {"a": "a.yaml"},
    "each other": {"a": "b.yaml", "b": "a.yaml"},
    "in a circle": {"a": "b.yaml", "b": "c.yaml", "c": "./a.yaml"},
    "by links": {"a": "link.yaml"},
    "in a chain without end": {"a": "n0.yaml", **{f"n{k}": f"n{k + 1}.yaml" for k in range(100)}},
    "a number": {"a": 5},
    "nothing": {"a": "null"},
    "a map": {"a": "{b: c}"},
    "a list of lists": {"a": "[[b.yaml]]"},
    "an empty name": {"a": "''"},
    "a missing file": {"a": "gone.yaml"},
    "a folder": {"a": "folder"},
    "a pipe": {"a": "pipe"},
    "a home of nobody": {"a": "~nobody-of-this-name/a.yaml"},
    "a page": {"a": "https://example.com/a.yaml"},
    "zeros": {"a": '"a\\0b"'},
    "a long name": {"a": "x" * 5000},
}


@pytest.mark.parametrize("case", BASES)
def test_bases_that_lead_nowhere_or_without_end_are_refused(case, tmp_path):
    for name, base in BASES[case].items():
        (tmp_path / f"{name}.yaml").write_text(f"_BASE_: {base}\nSEED: 1\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    with pytest.raises(ConfigError, match=r"_BASE_"):
        read(tmp_path / "a.yaml")


def test_a_fault_in_a_base_names_that_file(tmp_path):
    (tmp_path / "a.yaml").write_text("_BASE_: b.yaml\n")
    (tmp_path / "b.yaml").write_text("SEED: -1\n")
    with pytest.raises(ConfigError, match=r"b\.yaml: SEED is -1: it must be an integer from 0 to 99"):
        read(tmp_path / "a.yaml")


def test_bases_are_read_in_order_and_what_is_nearer_counts(tmp_path):
    (tmp_path / "a.yaml").write_text("_BASE_: [sub/b.yaml, c.yaml]\nMODEL: {HEAD: {ENABLED: true}}\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.yaml").write_text("_BASE_: ../c.yaml\nSEED: 5\nMODEL: {NAME: b, SIZES: [1, 2]}\n")
    (tmp_path / "c.yaml").write_text("MODEL: {NAME: c}\n")
    cfg = read(tmp_path / "a.yaml", "SEED", "7")
    assert (cfg.SEED, cfg.MODEL.NAME, cfg.MODEL.SIZES, cfg.MODEL.HEAD.ENABLED) == (7, "c", (1, 2), True)


def test_many_ways_to_one_base_are_walked_once(tmp_path):
    for level in range(30):
        (tmp_path / f"{level}.yaml").write_text(f"_BASE_: [{', '.join([f'{level + 1}.yaml'] * 10)}]\nSEED: {level}\n")
    (tmp_path / "30.yaml").write_text("MODEL: {NAME: last}\n")
    cfg = read(tmp_path / "0.yaml")
    assert (cfg.SEED, cfg.MODEL.NAME) == (0, "last")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "dangling", "long", "zeros", "empty name"])
def test_paths_that_are_no_files_are_refused(kind, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("gone")
    names = {"long": "x" * 5000, "zeros": "a\0b", "empty name": " "}
    with pytest.raises(ConfigError, match=r"^config file .* does not exist: give a path, or one of ") as refused:
        find_config(tmp_path / names.get(kind, kind))
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (["SEED"], "'SEED' stands alone"),
        (["SEED", "1", "MODEL"], "'MODEL' stands alone"),
        (["SEED", "1", "--resume", "x"], "'--resume' stands among the KEY VALUE overrides"),
        (["SEEDS", "1"], "SEEDS is not a key of this program: did you mean SEED?"),
        (["", "1"], "is not a key of this program"),
        (["_BASE_", "a.yaml"], "_BASE_ is not a key"),
        (["MODEL", "{'NAME': 'a'}"], "MODEL is a group of keys: name one of them, such as MODEL.NAME"),
        (["MODEL.NAME.x", "1"], "MODEL.NAME.x is not a key"),
        (["x" * 100_000, "1"], "is not a key of this program: check its spelling"),
        (["SEED", "(" * 4000], "SEED is '"),
        (["SEED", "~" * 4000 + "1"], "SEED is '"),
        (["SEED", "[" * 90_000 + "]" * 90_000], "SEED is '"),
        (["SEED", "1" * 4000], "SEED is 1"),
        (["SEED", "0x" + "f" * 4000], "SEED is a number of thousands of digits"),
        (["SEED", "{[]: 1}"], "SEED is '"),
        (["SEED", "1\0"], "SEED is '"),
    ],
)
def test_overrides_that_mean_nothing_are_refused(opts, sentence):
    with pytest.raises(ConfigError, match=sentence) as refused:
        read("", *opts)
    assert len(str(refused.value)) < 500


def test_overrides_are_literals_or_texts():
    cfg = read("", "SEED", "7", "MODEL.NAME", "a/b", "MODEL.SIZES", "[1, 2]", "MODEL.HEAD.ENABLED", "True")
    assert (cfg.SEED, cfg.MODEL.NAME, cfg.MODEL.SIZES, cfg.MODEL.HEAD.ENABLED) == (7, "a/b", (1, 2), True)
    assert read("", "MODEL.NAME", "'5'").MODEL.NAME == "5" and read("", "MODEL.NAME", "''").MODEL.NAME == ""
    assert decode("1e-4") == 1e-4 and decode("a b") == "a b"


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("SEED: 1")
    monkeypatch.setattr("pathlib.Path.open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(ConfigError, match=r"a\.yaml cannot be read: Permission denied"):
        read(tmp_path / "a.yaml")


def test_a_key_is_peeked_at_through_bases_and_overrides_whatever_else_they_hold(tmp_path):
    files = {
        "first": "MODEL: {META_ARCHITECTURE: First}\nOTHER: 1\n",
        "second": "MODEL: {META_ARCHITECTURE: Second}\n",
        "both": "_BASE_: [first.yaml, second.yaml]\nUNKNOWN: 2\n",
        "own": "_BASE_: both.yaml\nMODEL: {META_ARCHITECTURE: Own}\n",
        "silent": "SEED: 1\n",
        "endless": "_BASE_: endless.yaml\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    found = {name: peek_key("MODEL.META_ARCHITECTURE", tmp_path / f"{name}.yaml", default="None") for name in files}
    assert found == {
        **{"first": "First", "second": "Second", "both": "Second", "own": "Own"},
        **{"silent": "None", "endless": "None"},
    }
    overrides = ["SEED", "2", "MODEL.META_ARCHITECTURE", "Given"]
    assert peek_key("MODEL.META_ARCHITECTURE", tmp_path / "own.yaml", overrides) == "Given"
    assert peek_key("MODEL.META_ARCHITECTURE") is None
