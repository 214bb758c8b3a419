import io
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

import declip
from d2host.engine.errors import DataError
from declip import segmenter as segmenter_module
from declip.models.encoder import DenseCLIP
from declip.questions import region_mask
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


def test_a_second_question_encodes_neither_the_image_nor_known_names_again(segmenter, image):
    photo = segmenter.encode(image)
    segmenter.segment(photo, NAMES)
    with (
        mock.patch.object(DenseCLIP, "run_blocks", side_effect=AssertionError("the image is encoded again")),
        mock.patch.object(DenseCLIP, "encode_text", side_effect=AssertionError("names are encoded again")),
    ):
        changed = segmenter.segment(photo, ["red ball", "grass"])
    assert np.array_equal(changed.labels, segmenter.segment(image, ["red ball", "grass"]).labels)


def test_images_of_a_batch_are_segmented_as_they_are_alone(segmenter, image):
    images = [image, image[:80, :100], render_scene(2, 1).image]
    for together, alone in zip(segmenter.segment_batch(images, scores=True), images, strict=True):
        assert np.array_equal(together.labels, segmenter.segment(alone).labels)
        assert together.scores.shape == (3, *alone.shape[:2])
    batch = torch.stack([torch.from_numpy(each.copy()).permute(2, 0, 1) for each in (images[0], images[2])])
    assert len(segmenter.segment_batch(batch)) == 2


def test_scores_are_probabilities_of_the_labels(segmenter, image):
    result = segmenter.segment(image, scores=True)
    assert np.array_equal(result.scores.argmax(axis=0), result.labels)
    np.testing.assert_allclose(result.scores.sum(axis=0), 1, atol=1e-5)
    assert segmenter.segment(image).scores is None


def test_synonyms_are_one_class_whose_best_name_counts(segmenter, image):
    apart = segmenter.segment(image, ["wood", "water", "sand"])
    together = segmenter.segment(image, ["wood", "sand; water"])
    assert together.class_names == ("wood", "sand; water")
    assert np.array_equal(together.labels == 0, apart.labels == 0)


def test_what_no_name_fits_is_other(segmenter, image):
    scored = segmenter.segment(image, ["wood", "water"], scores=True)
    unsure = scored.scores.max(axis=0) < 0.9
    result = segmenter.segment(image, ["wood", "water"], background=0.9)
    assert result.class_names == ("wood", "water", "other")
    assert 0 < unsure.mean() < 1 and np.array_equal(result.masks["other"], unsure)
    by_words = segmenter.segment(image, ["wood", "water"], background=["sand", "brick"])
    expected = segmenter.segment(image, ["wood", "water", "sand", "brick"])
    assert np.array_equal(by_words.masks["other"], expected.masks["sand"] | expected.masks["brick"])


@pytest.mark.parametrize("background", [0, 1.5, float("nan"), "grass", ["", "x"]])
def test_an_impossible_background_is_refused(background, segmenter, image):
    with pytest.raises(DataError):
        segmenter.segment(image, background=background)
    with pytest.raises(DataError, match="a class is called 'other'"):
        segmenter.segment(image, ["other", "grass"], background=0.5)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["tv; monitor", "monitor"], "'monitor' is named twice"),
        ([f"thing {index}" for index in range(10_000)], "10,000 class names, synonyms included, are too many"),
        (["grass", "very " * 300], "of 300 words is longer than the text tower of 'nano' reads"),
    ],
)
def test_names_that_cannot_be_used_get_one_sentence(names, sentence, segmenter, image):
    with pytest.raises(DataError, match=sentence):
        segmenter.segment(image, names)


def test_more_scores_than_memory_holds_are_refused(segmenter, monkeypatch):
    monkeypatch.setattr(segmenter_module, "MOST_SCORES", 3 * 40 * 60)
    image = np.zeros((40, 60, 3), np.uint8)
    assert segmenter.segment(image, scores=True).scores.size == 3 * 40 * 60
    with pytest.raises(DataError, match="4 classes have too many scores for 60x40 pixels"):
        segmenter.segment(image, ["a", "b", "c", "d"], scores=True)


def test_a_heatmap_is_brightest_where_the_text_is(segmenter, image):
    scene = render_scene(2, 0)
    ids = {segment.name: number for number, segment in enumerate(scene.segments)}
    heatmap = segmenter.heatmap(image, "purple circle")
    inside = scene.segment_ids == ids["purple circle"]
    assert heatmap.values.shape == image.shape[:2]
    assert heatmap.values[inside].mean() > heatmap.values[~inside].mean() + 0.2
    assert heatmap.overlay().size == (128, 128)


def test_the_embedding_of_a_region_is_that_of_its_name(segmenter):
    scene = render_scene(2, 0)
    names = [segment.name for segment in scene.segments]
    texts = segmenter.encoder.encode_text(names, normalize=True)
    for name in ("wood", "water", "purple circle"):
        mask = scene.segment_ids == names.index(name)
        embedding = segmenter.region_embedding(scene.image, mask)
        assert embedding.norm().item() == pytest.approx(1, abs=1e-5)
        assert names[int((texts @ embedding).argmax())] == name


def test_regions_are_boxes_or_masks(segmenter, image):
    photo = segmenter.encode(image)
    mask = np.zeros(image.shape[:2], bool)
    mask[10:30, 20:60] = True
    expected = segmenter.region_embedding(photo, mask)
    for region in [(20, 10, 60, 30), torch.tensor([20.0, 10, 60, 30]), torch.from_numpy(mask), mask.astype(np.uint8)]:
        torch.testing.assert_close(segmenter.region_embedding(photo, region), expected)


@pytest.mark.parametrize("region", [(5, 5, 5, 9), (1, 2, 3), np.zeros((4, 6), bool), np.ones((3, 6), bool), "box"])
def test_what_is_no_region_is_refused(region):
    with pytest.raises(DataError, match="region"):
        region_mask(region, (4, 6))


def test_an_image_encoded_elsewhere_is_refused(segmenter, image):
    with pytest.raises(DataError, match="encoded by another segmenter"):
        segmenter.segment(declip.load_segmenter("nano").encode(image))


def test_threads_share_a_segmenter(image):
    shared = declip.load_segmenter("nano")
    scenes = [render_scene(2, index) for index in range(4)]
    questions = [(scene.image, sorted({segment.name for segment in scene.segments})) for scene in scenes] * 6
    expected = [declip.load_segmenter("nano").segment(*question).labels for question in questions[:4]] * 6
    shared.embed.capacity = 5  # names of one thread push out those of another
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda question: shared.segment(*question), questions))
    for result, labels in zip(results, expected, strict=True):
        assert (result.labels == labels).mean() > 0.999
    assert len(shared.embed._kept) == 5
