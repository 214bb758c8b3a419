"""What is no image, or too large to be one, gets one sentence, and is refused before it is read."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from d2host.engine.errors import DataError
from declip.data import opening
from declip.data.reading import read_array, read_image

READERS = {"image": read_image, "labels": read_array}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, depth=8, color=2, rows=b"", extra=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


NO_FILES = {
    "missing": (lambda path: None, "does not exist"),
    "a folder": (lambda path: path.mkdir(), "no file"),
    "a named pipe": (lambda path: os.mkfifo(path), "no file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "no file"),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "does not exist"),
    "a link to itself": (lambda path: path.symlink_to(path), "cannot be read"),
    "empty": (lambda path: path.touch(), "0 bytes"),
    "a page": (lambda path: path.write_text("<!DOCTYPE html><html>"), "its format is none of"),
    "a program": (lambda path: path.write_bytes(b"\x7fELF" + bytes(100)), "its format is none of"),
    "postscript": (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "its format"),
    "larger than a file may be": (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**31 + 1), "bytes"),
    "larger than an image may be": (lambda path: path.write_bytes(png(60_000, 60_000)), "60000x60000 pixels"),
    "one pixel too large": (lambda path: path.write_bytes(png(200_000_001, 1)), "200000001x1 pixels"),
    "many texts": (lambda path: path.write_bytes(bomb(b"zTXt", b"k\0\0", 100)), "cannot be read"),
    "a long text": (lambda path: path.write_bytes(bomb(b"zTXt", b"k\0\0")), "cannot be read"),
    "a long text in Unicode": (lambda path: path.write_bytes(bomb(b"iTXt", b"k\0\1\0\0\0")), "cannot be read"),
    "a long profile": (lambda path: path.write_bytes(bomb(b"iCCP", b"k\0\0")), "cannot be read"),
}


def bomb(kind, head, count=1):
    """A PNG of one pixel whose metadata grows a thousandfold: one of 30 MB, or many of 1 MB."""
    content = zlib.compress(bytes(1_000_000 if count > 1 else 30_000_000))
    return png(1, 1, rows=bytes(4), extra=b"".join(chunk(kind, head + content) for _ in range(count)))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_image_gets_one_sentence(kind, reader, tmp_path, recwarn):
    make, sentence = NO_FILES[kind]
    make(tmp_path / "x.png")
    with pytest.raises(DataError, match=rf"x\.png .*{sentence}"):
        READERS[reader](tmp_path / "x.png")
    assert not list(recwarn)


@pytest.mark.parametrize("name", ["a\0b.png", "n" * 10_000 + ".png", "file.png/x.png"])
def test_names_that_no_file_can_have_get_one_sentence(name, tmp_path):
    (tmp_path / "file.png").touch()
    with pytest.raises(DataError, match=r"cannot be read|does not exist"):
        read_image(f"{tmp_path}/{name}")


SAVED = {
    "jpg": {},
    "progressive.jpg": {"progressive": True},
    "png": {},
    "webp": {},
    "bmp": {},
    "gif": {},
    "tif": {"compression": "tiff_lzw"},
    "ppm": {},
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", SAVED)
def test_a_file_cut_anywhere_is_an_image_or_named(kind, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    path = tmp_path / f"whole.{kind}"
    Image.fromarray(pixels).save(path, **SAVED[kind])
    content, cut = path.read_bytes(), tmp_path / "cut"
    for length in range(0, len(content), max(len(content) // 40, 1)):
        cut.write_bytes(content[:length])
        try:
            image = read_image(cut)
        except DataError as error:
            assert f"image {cut} cannot be read" in str(error)
        else:
            assert image.shape == (24, 31, 3) and length > len(content) // 2  # nothing but the end mark is missing


@pytest.mark.parametrize("kind", SAVED)
def test_damaged_bytes_end_in_an_image_or_a_sentence(kind, tmp_path, recwarn):
    rng, path = np.random.default_rng(1), tmp_path / f"x.{kind}"
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path, **SAVED[kind])
    content = path.read_bytes()
    for _ in range(40):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 300), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        for reader in READERS.values():
            try:
                reader(path)
            except DataError as error:
                assert "x." in str(error)


def test_the_ending_does_not_say_the_format(tmp_path):
    Image.new("RGB", (5, 4), (1, 2, 3)).save(tmp_path / "x.jpg", format="PNG")
    assert (read_image(tmp_path / "x.jpg") == (1, 2, 3)).all()


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_of_several_frames_the_first_is_read_and_the_log_says_so(ending, tmp_path, caplog):
    frames = [Image.new("RGB", (6, 4), color) for color in ((250, 0, 0), (0, 250, 0))]
    frames[0].save(tmp_path / f"x.{ending}", save_all=True, append_images=frames[1:])
    image = read_image(tmp_path / f"x.{ending}")
    assert image[..., 0].min() > 200 and image[..., 1].max() < 50
    assert f"x.{ending} has several frames: the first is read" in caplog.text


def test_every_format_that_is_read_is_known_to_pil():
    Image.init()
    assert set(opening.FORMATS) - {"AVIF"} <= set(Image.OPEN)
