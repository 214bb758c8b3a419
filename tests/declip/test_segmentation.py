"""Images of every size and kind, their labels, and the pictures of both: within bounds."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from d2host.engine.errors import DataError
from declip.data import mapper as mappers
from declip.data.mapper import fitted, resize_labels
from declip.data.reading import read_array
from declip.segmentation import LABEL_SIDE, Segmentation, as_rgb, model_input

NAMES = ("grass", "sky", "red ball")


@pytest.mark.parametrize("size", [(3000, 4000), (20_000, 10), (1, 50_000), (2048, 2048), (480, 640), (1, 1)])
def test_labels_of_large_images_are_asked_for_at_a_bounded_side(size):
    sample = model_input(np.zeros((*size, 3), np.uint8), mappers.TestMapper(32, 256))
    asked = sample["height"], sample["width"]
    assert max(asked) == min(max(size), LABEL_SIDE) and min(asked) >= 1
    assert asked == size or min(size) <= 10 or asked[0] / asked[1] == pytest.approx(size[0] / size[1], rel=0.01)
    labels = torch.arange(asked[0])[:, None].expand(asked) % 3
    enlarged = Segmentation.of(np.zeros((*size, 3), np.uint8), labels, NAMES)
    assert enlarged.labels.shape == size and enlarged.labels.dtype == np.uint8
    assert np.array_equal(resize_labels(enlarged.labels, asked), labels.numpy())


@pytest.mark.parametrize(("count", "kind"), [(2, np.uint8), (256, np.uint8), (257, np.uint16), (70_000, np.uint32)])
def test_labels_have_the_smallest_kind_that_holds_the_classes(count, kind):
    labels = torch.tensor([[0, count - 1]])
    result = Segmentation.of(np.zeros((1, 2, 3), np.uint8), labels, [str(index) for index in range(count)])
    assert result.labels.dtype == kind and result.labels.tolist() == [[0, count - 1]]


def test_areas_are_shares_of_the_image(monkeypatch):
    labels = torch.tensor([[0, 0, 2], [2, 2, 2]])
    result = Segmentation.of(np.zeros((2, 3, 3), np.uint8), labels, NAMES)
    assert result.areas == {"grass": pytest.approx(1 / 3), "sky": 0, "red ball": pytest.approx(2 / 3)}
    assert result.areas == pytest.approx({name: mask.mean() for name, mask in result.masks.items()})


@pytest.mark.parametrize("size", [(3000, 2000), (2000, 1), (1, 2000), (1, 1), (37, 500), (500, 37), (60, 80)])
def test_pictures_are_bounded_whatever_the_image(size, tmp_path):
    result = Segmentation.of(np.full((*size, 3), 90, np.uint8), torch.zeros(fitted(size, LABEL_SIDE)), NAMES)
    overlay = result.overlay().size[::-1]
    assert overlay == size if max(size) <= LABEL_SIDE else max(overlay) == LABEL_SIDE
    result.save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert 600 < picture.width < 800 and 100 < picture.height < 1000
        blend = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        for pixel in (result.image[0, 0], np.asarray(result.overlay())[0, 0]):
            assert (abs(blend - pixel.astype(int)) <= 3).all(axis=1).sum() > 300, "the picture does not show it"


@pytest.mark.parametrize("name", ["x.unknown", "none", "file/x.png", "folder.png"])
def test_pictures_that_cannot_be_written_get_one_sentence_and_leave_nothing(name, tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder.png").mkdir()
    result = Segmentation.of(np.zeros((8, 8, 3), np.uint8), torch.zeros(8, 8), NAMES)
    with pytest.raises(DataError, match=r"picture .* cannot be written"):
        result.save(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_pil_image_is_read_as_its_file_would_be(tmp_path):
    grey = (np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)
    images = [
        Image.fromarray(grey),
        Image.new("RGBA", (4, 4), (200, 0, 0, 51)),
        Image.new("CMYK", (4, 4), (9, 9, 9, 9)),
    ]
    for number, image in enumerate(images):
        image.save(path := tmp_path / f"{number}.tif")
        with Image.open(path) as opened:
            assert np.array_equal(as_rgb(opened), as_rgb(path))
    tall = Image.new("RGB", (6, 4))
    tall.getexif()[0x0112] = 6
    assert as_rgb(tall).shape == (6, 4, 3) and tall.size == (6, 4)


def test_arrays_and_tensors_of_every_kind_of_number_are_read_alike():
    pixels = np.random.default_rng(0).integers(2, 256, (5, 6, 3))
    arrays = [pixels.astype(kind) for kind in (np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64)]
    tensors = [
        torch.from_numpy(pixels).permute(2, 0, 1).to(kind) for kind in (torch.uint8, torch.int32, torch.bfloat16)
    ]
    for image in [*arrays, *tensors, arrays[0][:, ::-1][:, ::-1]]:
        assert np.array_equal(as_rgb(image), pixels)
    assert np.array_equal(as_rgb(pixels - 0.4), pixels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 255.6, 1e30])
def test_one_value_out_of_range_is_refused(value):
    pixels = np.full((4, 4, 3), 100.0)
    pixels[2, 1, 0] = value
    for image in (pixels, torch.from_numpy(pixels).permute(2, 0, 1)):
        with pytest.raises(DataError, match="give 0 to 255"):
            as_rgb(image)


@pytest.mark.parametrize("kind", [bool, complex, object, "U3"])
def test_arrays_that_are_no_numbers_are_refused(kind):
    with pytest.raises(DataError, match="is no image"):
        as_rgb(np.zeros((4, 4, 3), kind))


def test_too_many_pixels_are_refused_before_they_are_looked_at():
    with pytest.raises(DataError, match="the image cannot be read"):
        as_rgb(np.broadcast_to(np.zeros(3, np.uint8), (20_000, 10_001, 3)))


def test_annotations_are_what_coco_reads():
    labels = torch.tensor([[0, 0, 2], [2, 2, 2]])
    result = Segmentation.of(np.zeros((2, 3, 3), np.uint8), labels, NAMES)
    annotations = json.loads(json.dumps(result.annotations("street")))
    assert [each["category_name"] for each in annotations] == ["grass", "red ball"]
    assert [(each["category_id"], each["area"]) for each in annotations] == [(1, 2), (3, 4)]
    for each, index in zip(annotations, (0, 2), strict=True):
        assert np.array_equal(coco_mask.decode(each["segmentation"]), labels.numpy() == index)


@pytest.mark.parametrize("count", [3, 300])
def test_a_label_picture_keeps_the_labels(count, tmp_path):
    labels = torch.tensor([[0, count - 1], [1, 0]])
    result = Segmentation.of(np.zeros((2, 2, 3), np.uint8), labels, [str(index) for index in range(count)])
    result.label_image().save(tmp_path / "labels.png")
    assert np.array_equal(read_array(tmp_path / "labels.png"), labels.numpy())


def test_other_is_grey_and_the_colours_of_classes_stay():
    plain = Segmentation.of(np.zeros((1, 1, 3), np.uint8), torch.zeros(1, 1), NAMES)
    other = Segmentation.of(np.zeros((1, 1, 3), np.uint8), torch.zeros(1, 1), (*NAMES, "other"))
    assert other.colors == [*plain.colors, (150, 150, 150)]


def test_an_overlay_is_as_opaque_as_asked():
    result = Segmentation.of(np.full((4, 4, 3), 90, np.uint8), torch.zeros(4, 4), NAMES)
    assert np.array_equal(np.asarray(result.overlay(0)), result.image)
    assert tuple(np.asarray(result.overlay(1))[0, 0]) == result.colors[0]


MEASURE = """
import resource, sys
import declip
segmenter = declip.load_segmenter("nano")
segmenter.set_classes(["grass", "sky"])
result = segmenter.segment(sys.argv[1])
result.areas, result.overlay(), result.save(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [(8000, 6000), (13_000, 13_076), (20_000, 10_000)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_large_photo_is_segmented_in_less_than_3_gb(size, turned, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    Image.fromarray(noise).resize(size).save(tmp_path / "x.jpg", progressive=turned, exif=exif)
    command = [sys.executable, "-c", MEASURE, tmp_path / "x.jpg", tmp_path / "out.png"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 3 * 2**30 and not result.stderr
