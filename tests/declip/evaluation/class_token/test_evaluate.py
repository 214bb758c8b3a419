import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from declip import build_encoder
from declip.data.image_list import ImageRecord
from declip.data.whole_images import CaptionedImages, LabelledImages, load_captions
from declip.evaluation.class_token import ClassTokenSets, evaluate_class_token
from declip.evaluation.class_token.evaluate import embed_images


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("nano", "nano-clip").eval()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return load_captions("nano_val", dataset_root=tmp_path_factory.mktemp("nano"))


def test_captions_of_scenes_are_found_far_more_often_than_by_chance(encoder, scenes):
    found = evaluate_class_token(encoder, ClassTokenSets(captions=scenes), max_images=60)
    assert set(found) == {f"{way}_R@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    assert all(found[f"{way}_R@5"] > 50 for way in ("image_to_text", "text_to_image"))  # chance: 8


def test_equal_captions_are_one_that_belongs_to_all_their_images(encoder, scenes):
    images = (scenes.images[0], scenes.images[0], scenes.images[1])
    captions = (("a photo of grass",), ("a photo of grass",), ("a photo of a red star",))
    sets = ClassTokenSets(captions=CaptionedImages(images, captions))
    found = evaluate_class_token(encoder, sets)
    again = ClassTokenSets(captions=CaptionedImages(images[1:], captions[1:]))
    assert found["text_to_image_R@1"] == evaluate_class_token(encoder, again)["text_to_image_R@1"]
    assert found["image_to_text_R@5"] == 100  # of two texts


def test_classes_are_named_by_prompts(encoder, tmp_path):
    colors = {"grass": (96, 156, 70), "water": (70, 130, 180), "sand": (222, 200, 150)}
    names, images = tuple(colors), []
    for name, color in colors.items():
        Image.new("RGB", (128, 128), color).save(tmp_path / f"{name}.png")
        images.append(ImageRecord(str(tmp_path / f"{name}.png")))
    sets = ClassTokenSets(classes=LabelledImages(tuple(images), (0, 1, 2), names))
    found = evaluate_class_token(encoder, sets)
    assert found["top5"] == 100 and set(found) == {"top1", "top5"}


def test_images_are_seen_by_their_centre_at_the_native_size(encoder, tmp_path):
    middle = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    wide = np.zeros((128, 256, 3), np.uint8)
    wide[:, 64:192] = middle
    Image.fromarray(wide).save(tmp_path / "wide.png")
    found = embed_images(encoder, [ImageRecord(str(tmp_path / "wide.png"))])
    with torch.no_grad():
        image = torch.from_numpy(middle).permute(2, 0, 1)[None].float()
        expected = F.normalize(encoder.encode_image(encoder.normalize(image)), dim=1)
    torch.testing.assert_close(found, expected)
