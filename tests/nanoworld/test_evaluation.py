import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from declip import build_encoder
from nanoworld.evaluation import (
    affinity_auroc,
    close_up_accuracy,
    evaluate_affinities,
    patch_segments,
    scenes_of,
    typical_window,
)
from nanoworld.vocabulary import CLASSES


@pytest.fixture(scope="module")
def scenes():
    return scenes_of(11, 12)


def test_auroc_is_that_of_the_rank_sum_test():
    rng = np.random.default_rng(0)
    same, affinities = rng.random(190) < 0.3, rng.standard_normal(190).round(1)  # with ties
    expected = mannwhitneyu(affinities[same], affinities[~same]).statistic / (same.sum() * (~same).sum())
    assert affinity_auroc(affinities, same) == pytest.approx(expected)
    assert np.isnan(affinity_auroc(affinities, np.ones(190, bool)))


def test_features_that_are_the_segments_themselves_are_perfect(scenes):
    by_image = {scene.image.tobytes(): scene for scene in scenes}

    def oracle(image):
        scene = by_image[image[0].permute(1, 2, 0).byte().numpy().tobytes()]
        segments, _ = patch_segments(scene.segment_ids, 8)
        return torch.nn.functional.one_hot(torch.from_numpy(segments)).permute(2, 0, 1)[None].float()

    found = evaluate_affinities(oracle, scenes)
    assert found == pytest.approx({"affinity_auroc": 1, "alike_within": 100, "alike_across": 0})


def test_features_that_are_one_everywhere_tell_nothing(scenes):
    found = evaluate_affinities(lambda image: torch.ones(1, 4, 16, 16), scenes)
    assert found == pytest.approx({"affinity_auroc": 0.5, "alike_within": 100, "alike_across": 100})


def test_patches_belong_to_the_segment_that_fills_them():
    ids = np.zeros((16, 16), np.uint8)
    ids[:8, 8:] = 1
    ids[8:, :4] = 2
    segments, pure = patch_segments(ids, 8)
    assert segments.tolist() == [[0, 1], [0, 0]] and pure.tolist() == [[True, True], [False, True]]


def test_close_ups_show_mostly_their_segment(scenes):
    for scene in scenes:
        for index, segment in enumerate(scene.segments):
            window = typical_window(scene, index)
            if window and not segment.is_thing:
                x0, y0, x1, y1 = window
                assert (scene.segment_ids[y0:y1, x0:x1] == index).mean() > 0.8


def test_accuracy_is_the_share_of_close_ups_named_right(scenes):
    encoder = build_encoder("nano", "random").eval()
    text = torch.eye(128)[: len(CLASSES)]
    encoder.encode_text = lambda prompts: text
    encoder.encode_image = lambda images: text[CLASSES.index("sand")].expand(len(images), -1)
    accuracy = close_up_accuracy(encoder, scenes)
    assert accuracy["closeup_acc_things"] == 0 and 0 < accuracy["closeup_acc_stuff"] < 100
