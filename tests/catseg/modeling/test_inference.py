import pytest
import torch
import torch.nn.functional as F

from catseg.modeling.inference import SlidingWindow, WholeImage, segment_labels, segment_scores
from d2host.engine.errors import ConfigError


def plain_scores(logits, size, kernel, stride):
    """Window scores added up pixel by pixel, then averaged with those of the whole image."""
    scores = F.interpolate(logits, size=(kernel, kernel), mode="bilinear", align_corners=False).sigmoid()
    starts = list(range(0, size - kernel + 1, stride))
    total, count = torch.zeros(logits.shape[1], size, size), torch.zeros(size, size)
    windows = iter(scores[:-1])
    for top in starts:
        for left in starts:
            total[:, top : top + kernel, left : left + kernel] += next(windows)
            count[top : top + kernel, left : left + kernel] += 1
    whole = F.interpolate(scores[-1:], size=(size, size), mode="bilinear", align_corners=False)[0]
    return (total / count + whole) / 2


def test_the_published_protocol_has_four_windows_of_stride_256_and_the_whole_image():
    views = SlidingWindow()
    corners = [(rows.start, columns.start) for rows, columns in views.grid.spans]
    assert corners == [(0, 0), (0, 256), (256, 0), (256, 256)]
    assert views.views(torch.rand(3, 50, 70)).shape == (5, 3, 384, 384)


def test_views_are_crops_of_the_squared_image():
    views, image = SlidingWindow(size=10, kernel=6, overlap=0.333), torch.rand(3, 7, 13)
    square = F.interpolate(image[None], size=(10, 10), mode="bilinear", align_corners=False)[0]
    windows = views.views(image)
    assert torch.equal(windows[1], square[:, 0:6, 4:10])
    assert torch.equal(windows[-1], F.interpolate(image[None], size=(6, 6), mode="bilinear", align_corners=False)[0])


def test_stitched_scores_equal_the_plain_formulation():
    views = SlidingWindow(size=20, kernel=12, overlap=0.333)
    logits = torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(views.scores(logits), plain_scores(logits, 20, 12, 8))


def test_the_last_window_moves_back_inside_where_the_stride_does_not_fit():
    views = SlidingWindow(size=21, kernel=12, overlap=0.333)
    assert {rows.start for rows, _ in views.grid.spans} == {0, 8, 9}
    assert views.scores(torch.zeros(10, 2, 4, 4)).eq(0.5).all()


@pytest.mark.parametrize("views", [SlidingWindow(20, 12, 0.333), WholeImage(12)], ids=["windows", "whole"])
@pytest.mark.parametrize("class_chunk", [None, 1, 3, 50])
def test_labels_are_the_classes_of_the_highest_scores(views, class_chunk):
    count = 5 if isinstance(views, SlidingWindow) else 1
    logits = torch.randn(count, 7, 4, 4)
    scores = segment_scores(views, logits, (9, 17), class_chunk)
    assert scores.shape == (7, 9, 17) and scores.min() >= 0 and scores.max() <= 1
    torch.testing.assert_close(scores, segment_scores(views, logits, (9, 17), class_chunk=7))
    assert torch.equal(segment_labels(views, logits, (9, 17), class_chunk), scores.argmax(dim=0))


@pytest.mark.parametrize(("options", "name"), [((10, 12, 0.3), "kernel 12"), ((10, 5, 1.0), "overlap of 1.0")])
def test_impossible_windows_are_refused_by_name(options, name):
    with pytest.raises(ConfigError, match=name):
        SlidingWindow(*options)
