import pytest
import torch
from torchvision.ops import nms

from fvit.modeling.scores import Ensemble, Selection, clip_features


def test_scores_equal_an_example_by_hand():
    """One box, a base class, a novel one and the background: p^(1-w) q^w, nothing renormalised."""
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log()
    cosines = torch.tensor([[0.2, 0.7, 0.1]]).log() / 45
    scores = Ensemble(alpha=0.1, beta=0.8, temperature=45)(logits, cosines, torch.tensor([False, True]))
    by_hand = [0.6**0.9 * 0.2**0.1, 0.3**0.2 * 0.7**0.8]
    assert scores.tolist() == [pytest.approx(by_hand, rel=1e-5)]


def test_one_weight_for_all_classes_knows_no_novel_ones():
    logits, cosines = torch.randn(5, 4), torch.rand(5, 4)
    score = Ensemble(0.2, 0.2, 120)
    torch.testing.assert_close(
        score(logits, cosines, torch.tensor([False, True, True])), score(logits, cosines, torch.zeros(3) > 0)
    )


def suppressed(boxes, scores, threshold, iou, limit):
    """Class by class, everything above the threshold."""
    found = []
    for label in range(scores.shape[1]):
        rows = torch.where(scores[:, label] > threshold)[0]
        kept = rows[nms(boxes[rows], scores[rows, label], iou)]
        found += [(scores[row, label].item(), row.item(), label) for row in kept]
    return sorted(found, reverse=True)[:limit]


@pytest.mark.parametrize("limit", [3, 20, 10_000])
def test_a_selection_from_the_best_candidates_is_that_from_all(limit):
    torch.manual_seed(0)
    corners = 60 * torch.rand(200, 2)
    boxes, scores = torch.cat([corners, corners + 5 + 30 * torch.rand(200, 2)], dim=1), torch.rand(200, 6)
    rows, classes, certain = Selection(0.05, 0.3, limit)(boxes, scores)
    expected = suppressed(boxes, scores, 0.05, 0.3, limit)
    assert list(zip(certain.tolist(), rows.tolist(), classes.tolist(), strict=True)) == expected


def test_nothing_above_the_threshold_leaves_nothing():
    assert [len(each) for each in Selection(0.5)(torch.rand(3, 4), torch.zeros(3, 2))] == [0, 0, 0]


def test_the_clip_feature_of_a_box_is_the_mean_of_its_tokens():
    dense = torch.nn.functional.normalize(torch.randn(1, 8, 6, 6), dim=1)
    (feature,) = clip_features(dense, [torch.tensor([[16.0, 32.0, 64.0, 64.0]])], stride=16)
    mean = dense[0, :, 2:4, 1:4].mean(dim=(1, 2))
    torch.testing.assert_close(feature, mean / mean.norm())
