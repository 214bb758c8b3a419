import numpy as np
import pytest
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.reading import read_image, read_sem_seg


def save(path, array, mode=None):
    Image.fromarray(array, mode=mode).save(path)
    return path


def test_an_image_is_rgb_whatever_the_file_holds(tmp_path):
    grey = save(tmp_path / "grey.png", np.full((4, 5), 7, np.uint8))
    assert read_image(grey).shape == (4, 5, 3) and (read_image(grey) == 7).all()


def test_an_image_is_turned_as_its_exif_orientation_says(tmp_path):
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (6, 4, 3)


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
        (lambda path: path.write_bytes(b"no image"), r"l\.png is not a readable image"),
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
    with pytest.raises(DataError, match=r"cut\.jpg cannot be decoded"):
        read_image(path)
