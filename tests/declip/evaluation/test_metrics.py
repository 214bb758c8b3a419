import math

import numpy as np
import pytest

from declip.evaluation import metrics
from declip.evaluation.metrics import compute_metrics, confusion_matrix, harmonic_mean, summarize

IGNORE = 255


def straightforward(prediction, sem_seg, num_classes):
    """IoU and accuracy per class, pixel by pixel as in a textbook."""
    valid = sem_seg != IGNORE
    iou, accuracy = [], []
    for k in range(num_classes):
        truth, guess = (sem_seg == k) & valid, (prediction == k) & valid
        union, pixels = (truth | guess).sum(), truth.sum()
        iou.append(100 * (truth & guess).sum() / union if union else math.nan)
        accuracy.append(100 * (truth & guess).sum() / pixels if pixels else math.nan)
    return iou, accuracy


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    sem_seg = rng.choice([0, 1, 2, 3, IGNORE], (30, 40))
    return rng.integers(0, 6, (30, 40)), sem_seg


def test_confusion_counts_pairs_and_leaves_ignored_pixels_out(maps):
    confusion = confusion_matrix(*maps, 6, IGNORE)
    assert confusion.dtype == np.int64 and confusion.sum() == (maps[1] != IGNORE).sum()
    assert confusion[2, 5] == ((maps[1] == 2) & (maps[0] == 5)).sum()


def test_metrics_equal_the_straightforward_computation(maps):
    metrics = compute_metrics(confusion_matrix(*maps, 6, IGNORE))
    iou, accuracy = straightforward(*maps, 6)
    np.testing.assert_allclose(metrics.iou, iou)
    np.testing.assert_allclose(metrics.accuracy, accuracy)
    valid = maps[1] != IGNORE
    assert metrics.pixel_accuracy == pytest.approx(100 * (maps[0] == maps[1])[valid].mean())
    assert metrics.mean_accuracy == pytest.approx(np.mean(accuracy[:4]))
    shares = [(maps[1] == k).sum() / valid.sum() for k in range(4)]
    assert metrics.frequency_weighted_iou == pytest.approx(np.dot(shares, iou[:4]))


def test_the_two_mean_ious_differ_by_classes_that_are_only_predicted(maps):
    metrics = compute_metrics(confusion_matrix(*maps, 6, IGNORE))
    iou, _ = straightforward(*maps, 6)
    assert metrics.mean_iou == pytest.approx(np.mean(iou[:4]))
    assert metrics.mean_iou_v06 == pytest.approx(np.mean(iou[:6]))


def test_classes_that_do_not_occur_are_nan_and_do_not_count():
    metrics = compute_metrics(np.diag([5, 0, 0]))
    assert metrics.mean_iou == 100 and np.isnan(metrics.iou[1:]).all()


def test_nothing_labelled_gives_nan_not_an_error():
    metrics = compute_metrics(np.zeros((3, 3), np.int64))
    assert math.isnan(metrics.mean_iou) and math.isnan(metrics.pixel_accuracy)


def test_a_summary_has_the_mean_iou_of_each_group_and_their_harmonic_mean():
    confusion = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 4]])
    summary = summarize(compute_metrics(confusion), {"seen": [0, 1], "unseen": [2]})
    assert summary["mIoU_seen"] == pytest.approx((75 + 200 / 3) / 2) and summary["mIoU_unseen"] == 100
    assert summary["hIoU"] == pytest.approx(2 / (1 / summary["mIoU_seen"] + 1 / 100))
    assert "hIoU" not in summarize(compute_metrics(confusion), {"seen": [0, 1]})
    assert harmonic_mean([50.0, 0.0]) == 0


def test_more_pixels_than_float32_can_count_stay_exact():
    confusion = np.array([[2**40 + 1, 0], [0, 1]])
    assert compute_metrics(confusion).pixels[0] == 2**40 + 1


@pytest.mark.parametrize("pixels", [1, 50, 2**15])
def test_pixels_are_counted_whole_however_many_at_a_time(pixels, monkeypatch):
    monkeypatch.setattr(metrics, "CACHED_PIXELS", pixels)
    rng = np.random.default_rng(0)
    prediction, labels = rng.integers(0, 3, (41, 29)), rng.integers(0, 4, (41, 29))
    labels[labels == 3] = 65535
    expected = np.zeros((3, 3), np.int64)
    np.add.at(expected, (labels[labels < 3], prediction[labels < 3]), 1)
    for kind in (np.int64, np.uint8):
        found = confusion_matrix(prediction.astype(kind), labels.astype(np.uint16), 3, 65535)
        assert (found == expected).all() and found.dtype == np.int64
