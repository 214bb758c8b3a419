import os
import time

import pytest

from d2host.engine.errors import DataError
from declip.data.class_lists import CLASS_LISTS, check_class_names, first_synonym, load_class_list
from declip.models.templates import Templates


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("ade20k_150", 150, "wall", "flag"),
        ("coco_stuff_171", 171, "person", "wood"),
    ],
)
def test_shipped_lists_have_their_classes_in_label_order(name, count, first, last):
    classes = load_class_list(name)
    assert (len(classes), first_synonym(classes[0]), first_synonym(classes[-1])) == (count, first, last)


def test_every_shipped_list_states_its_source():
    for path in CLASS_LISTS.glob("*.txt"):
        assert path.read_text(encoding="utf-8").startswith("# "), path


def test_comments_and_blank_lines_are_skipped_and_synonyms_kept(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("# source\n\nsofa, couch\n lamp \n")
    assert load_class_list(path) == ["sofa, couch", "lamp"]
    assert first_synonym("sofa, couch") == "sofa"


@pytest.mark.parametrize(("text", "sentence"), [("# nothing\n", "names no class"), ("a\nb\na\n", "names a twice")])
def test_bad_lists_get_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "own.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"own\.txt {sentence}"):
        load_class_list(path)


def test_a_missing_list_names_those_there_are():
    with pytest.raises(DataError, match="ade20k_150"):
        load_class_list("ade20k_151")


GOOD_LISTS = {
    "byte-order mark": b"\xef\xbb\xbfgrass\nsky\n",
    "byte-order mark before a remark": b"\xef\xbb\xbf# list\ngrass\nsky\n",
    "line ends of Windows": b"grass\r\nsky\r\n",
    "line ends of old Macs": b"grass\rsky",
    "no last line end": b"grass\nsky",
    "blank lines and tabs around": b"\n\t\n  grass\t\n\n\tsky \n",
}


@pytest.mark.parametrize("kind", GOOD_LISTS)
def test_lists_of_any_system_are_the_same_list(tmp_path, kind):
    (tmp_path / "own.txt").write_bytes(GOOD_LISTS[kind])
    assert load_class_list(tmp_path / "own.txt") == ["grass", "sky"]


BAD_LISTS = {
    "empty": b"",
    "blank": b"\n \n\t\n",
    "Latin-1": "café\n".encode("latin-1"),
    "UTF-16": "grass\nsky\n".encode("utf-16"),
    "NUL": b"grass\x00\nsky\n",
    "escape": b"grass\x1b[31m\nsky\n",
    "commas": b",\n, ,\n",
    "a name of 100 kB": b"x" * 100_000 + b"\nsky\n",
    "twice but for spaces": b"red  ball\n red\tball \n",
    "twice but for the way an accent is written": "café\ncafe\u0301\n".encode(),
}


@pytest.mark.parametrize("kind", BAD_LISTS)
def test_lists_that_name_no_classes_are_refused(tmp_path, kind):
    (tmp_path / "own.txt").write_bytes(BAD_LISTS[kind])
    with pytest.raises(DataError, match=r"class list .*own\.txt ") as raised:
        load_class_list(tmp_path / "own.txt")
    assert len(str(raised.value)) < 1500


@pytest.mark.parametrize(
    "name", ["$x$", "$", "\\frac{a", "{}", "{name}", "%s", "100 %", "ünïcödé", "שלום", "日本", "a;b"]
)
def test_names_of_any_writing_are_kept_and_fill_every_template(tmp_path, name):
    (tmp_path / "own.txt").write_text(f"{name}\nsky\n", encoding="utf-8")
    assert load_class_list(tmp_path / "own.txt") == [name, "sky"]
    for templates in Templates:
        assert all(name in fill(name) for fill in templates.functions)


def test_a_hundred_thousand_names_take_a_moment(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("\n".join(f"thing {number}" for number in range(100_000)))
    start = time.process_time()
    assert len(load_class_list(path)) == 100_000
    path.write_text("\n".join([f"thing {number}" for number in range(100_000)] * 2))
    with pytest.raises(DataError, match=r"names thing 0, thing 1, thing 2 twice \(and 99997 more\)"):
        load_class_list(path)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "names", ["cat", b"cat", 5, None, {"cat": 1}, [], [1], [None], ["cat", ""], ["a\nb"], [["cat"]]]
)
def test_what_is_no_list_of_names_is_refused(names):
    with pytest.raises(DataError, match="my classes "):
        check_class_names(names, "my classes")


def test_a_folder_a_pipe_and_a_path_without_file_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.txt").mkdir()
    for name in ("pipe.txt", "folder.txt", "gone.txt", "gone", "../gone"):
        with pytest.raises(DataError, match=r"class list .*(is no file|does not exist)"):
            load_class_list(tmp_path / name)
