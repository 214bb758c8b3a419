import json
import os

import pytest

from d2host.engine.errors import DataError
from declip.data import text_files
from declip.data.text_files import read_json, read_lines, read_text

ODD_TEXTS = {
    "Latin-1": "café".encode("latin-1"),
    "UTF-16": "cafe".encode("utf-16"),
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(range(128, 256)),
}
ODD_JSONS = {
    "empty": b"",
    "blank": b" \n",
    "cut off": b'{"images": [{"id": 1, "file_name": "a.',
    "two values": b"{} {}",
    "deep lists": b"[" * 200_000,
    "deep maps": b'{"a":' * 100_000,
    "a number of 10,000 digits": b"9" * 10_000,
    "NaN": b'{"area": NaN}',
    "Infinity": b"[-Infinity]",
    "NUL": b"\0" * 100,
    "a comment": b"{} // nothing",
    **ODD_TEXTS,
}


def in_a_file(folder, content):
    path = folder / "file.json"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ODD_TEXTS)
def test_a_text_that_is_no_utf8_is_named(tmp_path, kind):
    with pytest.raises(DataError, match=r"a list .*file\.json is no UTF-8 text .*save it as UTF-8, or make it"):
        read_text(in_a_file(tmp_path, ODD_TEXTS[kind]), "a list", "make it")


@pytest.mark.parametrize("kind", ODD_JSONS)
def test_what_is_no_json_is_one_sentence(tmp_path, kind):
    with pytest.raises(DataError, match=r"the map .*file\.json is no .*: .*make it") as raised:
        read_json(in_a_file(tmp_path, ODD_JSONS[kind]), "the map", "make it")
    assert len(str(raised.value)) < 500 and "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf[1]", b"[\r\n1\r]", b"[1]"])
def test_byte_order_marks_and_line_ends_of_any_system_are_read(tmp_path, content):
    assert read_json(in_a_file(tmp_path, content), "list", "make it") == [1]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_come_one_after_the_other(tmp_path, end, monkeypatch):
    path = in_a_file(tmp_path, b"\xef\xbb\xbfa" + end + end + b"caf\xc3\xa9 b" + end + b"last")
    assert list(read_lines(path, "list", "make it")) == ["a", "", "caf\N{LATIN SMALL LETTER E WITH ACUTE} b", "last"]
    monkeypatch.setattr(text_files, "LONGEST_LINE", 4)
    with pytest.raises(DataError, match=r"list .* has a line of more than 4 characters: make it"):
        list(read_lines(path, "list", "make it"))
    with pytest.raises(DataError, match="is no UTF-8 text"):
        list(read_lines(in_a_file(tmp_path, b"a" + end + b"\xff"), "list", "make it"))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    sentences = {"pipe": "is no file", ".": "is no file", "loop": "cannot be read", "dangling": "does not exist"}
    for name in ("gone", "a\0b", "x" * 5000):
        sentences[name] = "does not exist|cannot be read"
    for name, sentence in sentences.items():
        with pytest.raises(DataError, match=sentence):
            read_text(f"{tmp_path}/{name}", "list", "make it")


def test_a_file_is_refused_by_size_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "sparse.json"
    with open(path, "wb") as file:
        file.truncate(600 * 2**20)
    with pytest.raises(DataError, match="has 629,145,600 bytes, at most 536,870,912 are read: make it"):
        read_json(path, "list", "make it")
    monkeypatch.setattr(text_files, "MOST_VALUES", 1000)
    with pytest.raises(DataError, match="holds more than 1,000 values"):
        read_json(in_a_file(tmp_path, json.dumps([[]] * 600).encode()), "list", "make it")
