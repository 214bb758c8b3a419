import io

import numpy as np
import pytest
import torch
from PIL import Image

import declip
from d2host.engine.errors import CheckpointError, ConfigError, DataError
from nanoworld.world import render_scene

NAMES = ["grass", "sky", "red ball"]


@pytest.fixture(scope="module")
def segmenter():
    segmenter = declip.load_segmenter("nano")
    segmenter.set_classes(NAMES)
    return segmenter


@pytest.fixture(scope="module")
def image():
    return render_scene(2, 0).image


def test_kinds_of_images_are_segmented_alike(segmenter, image, tmp_path):
    Image.fromarray(image).save(tmp_path / "a.png")
    kinds = [image, Image.fromarray(image), torch.from_numpy(image.copy()).permute(2, 0, 1), tmp_path / "a.png"]
    first, *others = [segmenter.segment(kind).labels for kind in kinds]
    assert first.shape == image.shape[:2]
    assert all(np.array_equal(first, labels) for labels in others)


def test_images_of_any_size_are_segmented(segmenter):
    for size in [(65, 97), (8, 300), (1, 1)]:
        assert segmenter.segment(np.zeros((*size, 3), np.uint8)).labels.shape == size


def test_a_photo_is_turned_upright(segmenter, image, tmp_path):
    turned = Image.fromarray(image[:96])
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert segmenter.segment(tmp_path / "turned.jpg").labels.shape == (128, 96)


def test_the_result_has_masks_areas_and_pictures(segmenter, image, tmp_path):
    result = segmenter.segment(image)
    assert sum(mask.astype(int) for mask in result.masks.values()).min() == 1
    assert sum(result.areas.values()) == pytest.approx(1)
    assert result.overlay().size == (image.shape[1], image.shape[0])
    result.save(tmp_path / "made" / "picture.png")
    for content in (tmp_path / "made" / "picture.png", io.BytesIO(result._repr_png_())):
        assert Image.open(content).format == "PNG"


def test_weights_of_the_project_say_what_they_are_of(image, tmp_path):
    encoder = declip.build_encoder("nano", "nano-declip")
    path = declip.save_encoder(encoder, tmp_path / "mine.safetensors")
    expected = declip.segment(image, NAMES, "nano").labels
    assert np.array_equal(declip.segment(image, NAMES, path).labels, expected)


@pytest.mark.parametrize("names", [[], ["a", "a"], ["a", " "], "car"])
def test_impossible_class_names_are_refused(segmenter, names):
    with pytest.raises(DataError, match="class names"):
        segmenter.set_classes(names)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 4)), torch.zeros(4, 4), 5, np.zeros((0, 4, 3))])
def test_what_is_no_image_is_refused(segmenter, image):
    with pytest.raises(DataError, match="is no image"):
        segmenter.segment(image)


@pytest.mark.parametrize("image", [np.full((4, 4, 3), 300), np.full((4, 4, 3), -1), torch.rand(3, 4, 4)])
def test_values_of_another_range_are_refused(segmenter, image):
    with pytest.raises(DataError, match="give 0 to 255"):
        segmenter.segment(image)


def test_classes_have_to_be_chosen_first(image):
    with pytest.raises(DataError, match="set_classes"):
        declip.load_segmenter("nano").segment(image)


def test_models_that_are_not_there_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="is no trained model"):
        declip.load_segmenter(tmp_path)
    with pytest.raises(ConfigError):
        declip.load_segmenter("ViT-B-32")
    with pytest.raises(ConfigError, match="leave these options out"):
        declip.load_segmenter(tmp_path, weights="openai")
    (tmp_path / "config.yaml").write_text("MODEL: {META_ARCHITECTURE: Other}")
    (tmp_path / "model.pth").touch()
    with pytest.raises(CheckpointError, match="CATSeg"):
        declip.load_segmenter(tmp_path / "model.pth")
