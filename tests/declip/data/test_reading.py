import io
import re
import struct
import tarfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from catseg.mapper import TrainMapper
from d2host.engine.errors import DataError
from declip.data import mapper as mappers
from declip.data.image_list import ImageRecord
from declip.data.preparation.check import check_pair
from declip.data.reading import LabelFormat, read_array, read_image, read_sem_seg, upright_rgb
from declip.data.region_sets import RegionImage
from declip.data.shards import read_shard


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, depth=8, color=2, rows=b"", extra=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def save(path, array, mode=None):
    Image.fromarray(array, mode=mode).save(path)
    return path


def test_an_image_is_rgb_whatever_the_file_holds(tmp_path):
    grey = save(tmp_path / "grey.png", np.full((4, 5), 7, np.uint8))
    assert read_image(grey).shape == (4, 5, 3) and (read_image(grey) == 7).all()


@pytest.fixture
def turned(tmp_path):
    """A JPEG of 40x60 pixels that its EXIF orientation turns to 60x40: red on the left as stored, upright on top."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30, 0] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    return tmp_path / "turned.jpg"


UPRIGHT = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
    8: np.rot90,
}


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
def test_every_orientation_in_every_format_is_turned_upright(orientation, ending, tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16, 0] = pixels[:8, 16:, 1] = pixels[8:, :16, 2] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"x.{ending}", exif=exif, **({} if ending == "tif" else {"quality": 100}))
    expected = UPRIGHT.get(orientation, lambda stored: stored)(pixels)
    with Image.open(tmp_path / f"x.{ending}") as stored:
        for upright in (read_image(tmp_path / f"x.{ending}"), upright_rgb(stored, "it")):
            assert upright.shape == expected.shape
            corners = (slice(2, None, expected.shape[0] - 5), slice(2, None, expected.shape[1] - 5))
            assert np.array_equal(upright[corners] > 127, expected[corners] > 127)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("content", [b"no header at all", b"MM\0*\0\0\0\x08\0", b"MM\0*\xff\xff\xff\xff", b""])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_photo_with_damaged_exif_data_is_read_as_stored(content, ending, tmp_path):
    Image.new("RGB", (6, 4), (90, 90, 90)).save(tmp_path / f"x.{ending}", exif=b"Exif\0\0" + content)
    assert read_image(tmp_path / f"x.{ending}").shape == (4, 6, 3)


def test_strips_join_seamlessly(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    monkeypatch.setattr("declip.data.reading.STRIP_PIXELS", 70)
    assert np.array_equal(read_image(tmp_path / "x.png"), pixels)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_16_bit_greys_keep_their_range(ending, tmp_path):
    grey = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    if ending == "pgm":
        (tmp_path / "x.pgm").write_bytes(b"P5 16 16 65535\n" + grey.astype(">u2").tobytes())
    else:
        Image.fromarray(grey).save(tmp_path / f"x.{ending}")
    read = read_image(tmp_path / f"x.{ending}")
    assert all(np.array_equal(read[..., channel], grey >> 8) for channel in range(3))


def test_16_bit_colours_keep_their_range(tmp_path):
    row = np.array([[65535, 0, 257], [300, 40000, 512]], ">u2")
    (tmp_path / "x.png").write_bytes(png(2, 1, depth=16, rows=b"\0" + row.tobytes()))
    assert read_image(tmp_path / "x.png").tolist() == (row >> 8)[None].tolist()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_without_a_known_range_are_refused_as_images_and_kept_as_labels(kind, tmp_path):
    labels = np.array([[0, 3], [846, 65535]], kind)
    Image.fromarray(labels).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x\.tif holds .* whose range is not known"):
        read_image(tmp_path / "x.tif")
    assert np.array_equal(read_sem_seg(tmp_path / "x.tif", num_classes=847, ignore_label=65535), labels)


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf"), -1e30])
def test_labels_that_are_no_whole_numbers_are_refused(value, tmp_path):
    Image.fromarray(np.array([[0, value]], np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match="holds numbers that are not whole"):
        read_sem_seg(tmp_path / "x.tif", num_classes=3, ignore_label=255)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("color", [0, 3])
def test_labels_of_few_bits_keep_their_values(depth, color, tmp_path):
    """Tools that make PNGs smaller store few classes in few bits."""
    palette = chunk(b"PLTE", bytes(range(3 * 2 ** min(depth, 6)))) if color else b""
    (tmp_path / "x.png").write_bytes(png(8 // depth, 1, depth=depth, color=color, rows=b"\0\x1b", extra=palette))
    expected = [0x1B >> 8 - depth * (place + 1) & 2**depth - 1 for place in range(8 // depth)]
    assert read_array(tmp_path / "x.png").tolist() == [expected]


@pytest.mark.parametrize(
    ("mode", "ending", "sentence"),
    [
        *[(mode, "png", "channels") for mode in ("RGB", "RGBA", "LA")],
        ("CMYK", "tif", "channels"),
        *[("L", "jpg", "is a JPEG"), ("RGB", "jpg", "is a JPEG")],
    ],
)
def test_labels_in_colour_or_as_jpeg_are_refused(mode, ending, sentence, tmp_path):
    Image.new(mode, (4, 4)).save(tmp_path / f"x.{ending}")
    with pytest.raises(DataError, match=sentence):
        read_sem_seg(tmp_path / f"x.{ending}", num_classes=3, ignore_label=255)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        *[(mode, "png") for mode in ("1", "L", "P", "RGB", "LA", "RGBA")],
        *[(mode, "tif") for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "LAB")],
        *[(mode, "webp") for mode in ("RGB", "RGBA")],
        *[("L", "jpg"), ("CMYK", "jpg"), ("P", "gif"), ("P", "bmp"), ("L", "pgm")],
    ],
)
def test_every_mode_becomes_the_colours_that_are_seen(mode, ending, tmp_path):
    Image.new("RGBA", (6, 5), (0, 0, 0, 255)).convert("RGB" if mode == "LAB" else "RGBA").save(tmp_path / "black.png")
    image = Image.open(tmp_path / "black.png")
    image = image.convert(mode) if mode != "LAB" else Image.new("LAB", (6, 5), (0, 128, 128))
    image.save(tmp_path / f"x.{ending}")
    read = read_image(tmp_path / f"x.{ending}")
    assert read.shape == (5, 6, 3) and read.dtype == np.uint8
    assert mode == "LAB" or read.max() <= 8


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_transparent_pixels_lie_on_white(ending, tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0], pixels[0, 1], pixels[1, 0] = (200, 0, 0, 255), (200, 0, 0, 0), (200, 0, 0, 51)
    Image.fromarray(pixels).save(tmp_path / f"x.{ending}", **({"lossless": True} if ending == "webp" else {}))
    read = read_image(tmp_path / f"x.{ending}")
    assert (
        read[0].tolist() == [[200, 0, 0], [255, 255, 255]] and abs(read[1, 0].astype(int) - (244, 204, 204)).max() < 3
    )
    assert read[1, 1].tolist() == [255] * 3


def test_a_transparent_colour_of_a_palette_is_white_and_in_labels_its_index(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    image.putpalette([9, 9, 9, 7, 7, 7])
    image.save(tmp_path / "x.png", transparency=0)
    assert read_image(tmp_path / "x.png").tolist() == [[[255] * 3, [7] * 3]]
    assert read_array(tmp_path / "x.png").tolist() == [[0, 1]]


def test_a_wholly_transparent_image_is_refused(tmp_path):
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png is wholly transparent"):
        read_image(tmp_path / "x.png")


def in_a_shard(path):
    with tarfile.open(path.with_suffix(".tar"), "w") as tar:
        tar.add(path, path.name)
    ((_, name, content),) = read_shard(str(path.with_suffix(".tar")))
    return read_image(io.BytesIO(content), name=name)


READERS = {
    "reader": read_image,
    "image source": lambda path: ImageRecord(str(path)).read().permute(1, 2, 0).numpy(),
    "image source, decoded at half its size": lambda path: ImageRecord(str(path)).read(15).permute(1, 2, 0).numpy(),
    "shard": in_a_shard,
    "regions": lambda path: RegionImage(str(path), *[torch.zeros(0)] * 3).image().permute(1, 2, 0).numpy(),
    "test images": lambda path: mappers.TestMapper(0, 0)({"file_name": str(path)})["image"].permute(1, 2, 0).numpy(),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_turns_an_image_upright(turned, reader):
    image = READERS[reader](turned)
    height, width = image.shape[:2]
    assert height == 1.5 * width and height in (60, 30)
    assert (image[: height // 2 - 8, :, 0] > 200).all() and (image[height // 2 + 8 :, :, 0] < 50).all()


def test_labels_for_the_pixels_as_stored_are_refused(turned, tmp_path):
    """Everywhere the same sentence: a label file, an annotation, the mapper of training, and the check."""
    Image.new("L", (60, 40)).save(tmp_path / "labels.png")
    record = {"file_name": str(turned), "sem_seg_file_name": str(tmp_path / "labels.png")}
    sentence = r"is 60x40, its image .*turned\.jpg is 40x60 upright: remove the image's EXIF orientation"
    with pytest.raises(DataError, match=sentence):
        TrainMapper(LabelFormat(2), (32,), 64, None)(record, np.random.default_rng(0))
    with pytest.raises(DataError, match=f"annotation of .* {sentence}"):
        RegionImage(str(turned), *[torch.zeros(0)] * 3, size=(40, 60)).image()
    assert re.search(sentence, str(check_pair(record, LabelFormat(2))[0]))


@pytest.mark.parametrize("name", ["labels.png", "labels.tif"])
def test_16_bit_labels_keep_their_values(tmp_path, name):
    labels = np.array([[0, 300], [846, 65535]], np.uint16)
    read = read_sem_seg(save(tmp_path / name, labels), num_classes=847, ignore_label=65535)
    assert read.dtype == np.int64 and (read == labels).all()


def test_32_bit_labels_keep_their_values(tmp_path):
    labels = np.array([[0, 846]], np.int32)
    assert (read_sem_seg(save(tmp_path / "l.tif", labels), num_classes=847, ignore_label=65535) == labels).all()


def test_palette_labels_are_their_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8), mode="P")
    image.putpalette([200, 100, 0] * 256)
    image.save(tmp_path / "palette.png")
    read = read_sem_seg(tmp_path / "palette.png", num_classes=3, ignore_label=255)
    assert read.tolist() == [[0, 1], [2, 255]]


def test_reducing_the_zero_label_ignores_zero_and_moves_the_others_down(tmp_path):
    labels = save(tmp_path / "ade.png", np.array([[0, 1, 150]], np.uint8))
    read = read_sem_seg(labels, num_classes=150, ignore_label=255, reduce_zero_label=True)
    assert read.tolist() == [[255, 0, 149]]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, r"label file .*l\.png does not exist"),
        (lambda path: path.write_bytes(b"no image"), r"l\.png cannot be read"),
        (lambda path: save(path, np.zeros((2, 2, 3), np.uint8)), r"l\.png has 3 channels"),
        (lambda path: save(path, np.full((2, 2), 9, np.uint8)), r"l\.png has label 9, but the dataset has 5 classes"),
    ],
)
def test_bad_label_files_get_one_sentence(tmp_path, make, sentence):
    make(tmp_path / "l.png")
    with pytest.raises(DataError, match=sentence):
        read_sem_seg(tmp_path / "l.png", num_classes=5, ignore_label=255)


def test_a_truncated_image_is_named(tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"cut\.jpg cannot be read"):
        read_image(path)
