import re
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from catseg.mapper import TrainMapper
from d2host.engine.errors import DataError
from declip.data import mapper as mappers
from declip.data.image_sources import ImageRecord, list_images
from declip.data.preparation.check import check_pair
from declip.data.reading import LabelFormat, read_image, read_sem_seg
from declip.data.region_sets import RegionImage


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


def in_a_shard(path):
    with tarfile.open(path.with_suffix(".tar"), "w") as tar:
        tar.add(path, path.name)
    return list_images(str(path.with_suffix(".tar")))[0]


READERS = {
    "reader": read_image,
    "image source": lambda path: ImageRecord(str(path)).read().permute(1, 2, 0).numpy(),
    "image source, decoded at half its size": lambda path: ImageRecord(str(path)).read(15).permute(1, 2, 0).numpy(),
    "shard": lambda path: in_a_shard(path).read().permute(1, 2, 0).numpy(),
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
