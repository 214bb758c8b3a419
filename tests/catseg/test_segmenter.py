"""CAT-Seg behind the interface of all segmenters."""

from unittest import mock

import numpy as np
import pytest
import torch

from catseg.config import get_catseg_cfg
from catseg.segmenter import CATSegSegmenter
from d2host import build_model
from declip.models.encoder import DenseCLIP
from nanoworld.world import render_scene
from tests.tiny_config import tiny_config

NAMES = ["grass", "red ring", "water"]
WINDOWS = ["TEST.SLIDING_WINDOW.ENABLED", "True", "TEST.SLIDING_WINDOW.SIZE", "64", "TEST.SLIDING_WINDOW.KERNEL", "32"]
STITCHED = [*WINDOWS, "TEST.SLIDING_WINDOW.OVERLAP", "0.5", "TEST.SLIDING_WINDOW.STITCH", "True"]


@pytest.fixture(scope="module", params=[[], WINDOWS, STITCHED], ids=["whole", "windows", "stitched"])
def segmenter(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(tiny_config("nano-declip"))
    torch.manual_seed(0)
    return CATSegSegmenter(build_model(get_catseg_cfg(path, ["MODEL.ENCODER.GRID", "16", *request.param])), 64, 256)


@pytest.fixture(scope="module")
def image():
    return render_scene(2, 0).image


def test_labels_and_scores_are_those_of_the_model(segmenter, image):
    result = segmenter.segment(image, NAMES, scores=True)
    segmenter.model.set_vocabulary(NAMES)
    sample = segmenter.mapper.resize(image)
    expected = segmenter.model([sample])[0]["sem_seg"].numpy()
    np.testing.assert_allclose(result.scores, expected, atol=1e-5)
    assert np.array_equal(result.labels, segmenter.model.predict_labels([sample])[0]["sem_seg"].numpy())


def test_a_second_question_encodes_nothing_again(segmenter, image):
    photo = segmenter.encode(image)
    segmenter.segment(photo, NAMES)
    with (
        mock.patch.object(DenseCLIP, "run_blocks", side_effect=AssertionError("the image is encoded again")),
        mock.patch.object(DenseCLIP, "encode_text", side_effect=AssertionError("names are encoded again")),
    ):
        changed = segmenter.segment(photo, NAMES[::-1])
    assert np.array_equal(changed.labels, segmenter.segment(image, NAMES[::-1]).labels)


def test_synonyms_and_background(segmenter, image):
    apart = segmenter.segment(image, NAMES, scores=True)
    together = segmenter.segment(image, ["grass", "red ring; water"], scores=True)
    np.testing.assert_allclose(together.scores[1], apart.scores[1:].max(axis=0), atol=1e-5)
    level = float(np.median(apart.scores.max(axis=0)))
    unsure = segmenter.segment(image, NAMES, background=level)
    assert np.array_equal(unsure.masks["other"], apart.scores.max(axis=0) < level)


def test_heatmaps_and_regions(segmenter, image):
    heatmap = segmenter.heatmap(image, "a red ring")
    assert heatmap.values.shape == image.shape[:2] and 0 <= heatmap.values.min() <= heatmap.values.max() <= 1
    scene = render_scene(2, 0)
    names = [segment.name for segment in scene.segments]
    mask = scene.segment_ids == names.index("wood")
    texts = segmenter.encoder.encode_text(["wood", "water"], normalize=True)
    closest = int((texts @ segmenter.region_embedding(scene.image, mask)).argmax())
    assert closest == 0
