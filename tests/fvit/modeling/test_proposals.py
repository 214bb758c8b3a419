import math

import torch
import torch.nn.functional as F
from torchvision.models.detection.image_list import ImageList

from fvit.modeling.norm import SyncBatchNorm
from fvit.modeling.proposals import AnchorMatcher, Anchors, ProposalNetwork
from fvit.modeling.pyramid import pyramid_strides


def test_anchors_equal_a_plain_formula():
    found = Anchors([3.5]).of_level(0, (2, 3), torch.zeros(())).tolist()
    plain = []
    for row in range(2):
        for column in range(3):
            for ratio in (0.5, 1, 2):
                width, height = 28 / math.sqrt(ratio), 28 * math.sqrt(ratio)
                x, y = 3.5 * column, 3.5 * row
                plain.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    torch.testing.assert_close(torch.tensor(found), torch.tensor(plain))


def test_anchors_of_14_pixel_patches_are_those_of_16_pixel_patches_in_a_larger_frame():
    maps = [torch.zeros(1, 1, side, side) for side in (16, 8, 4, 2, 1)]
    images = ImageList(torch.zeros(1, 3, 56, 56), [(56, 56)])
    (small,), (large,) = (Anchors(pyramid_strides(patch))(images, maps) for patch in (14, 16))
    torch.testing.assert_close(small * 16 / 14, large)


def test_an_object_gets_the_anchors_that_overlap_it_most_but_no_negative():
    overlaps = torch.tensor([[0.8, 0.1, 0.5, 0.0], [0.0, 0.4, 0.4, 0.0], [0.1, 0.0, 0.0, 0.2]])
    matches = AnchorMatcher(0.7, 0.3, allow_low_quality_matches=True)(overlaps)
    assert matches.tolist() == [0, 1, 0, -1]  # the third object's best is 0.2


def network(**options):
    torch.manual_seed(0)
    return ProposalNetwork(pyramid_strides(16), 8, candidates=50, proposals=20, samples=16, **options)


def inputs():
    maps = {level: torch.randn(2, 8, side, side) for level, side in enumerate((32, 16, 8, 4, 2))}
    return ImageList(torch.zeros(2, 3, 128, 128), [(128, 128), (96, 128)]), maps


def test_proposals_lie_within_their_images_and_are_no_more_than_asked_for():
    images, maps = inputs()
    boxes, losses = network().eval()(images, maps)
    assert not losses and [len(each) for each in boxes] == [20, 20]
    assert all(each.min() >= 0 for each in boxes) and boxes[1][:, 3].max() <= 96


def test_the_loss_of_boxes_is_l1_over_all_samples():
    deltas, targets = torch.randn(6, 4), torch.randn(6, 4)
    labels = torch.tensor([1.0, 1, 0, 0, -1, 0])
    _, loss = network().compute_loss(torch.zeros(6, 1), deltas, [labels], [targets])
    torch.testing.assert_close(loss, (deltas[:2] - targets[:2]).abs().sum() / 5)


def test_the_loss_of_objectness_is_the_mean_over_samples():
    logits, labels = torch.randn(6, 1), torch.tensor([1.0, 0, 0, 1, -1, 0])
    loss, _ = network().compute_loss(logits, torch.zeros(6, 4), [labels], [torch.zeros(6, 4)])
    known = labels >= 0
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits[known, 0], labels[known]))


def test_an_image_without_objects_teaches_background():
    images, maps = inputs()
    targets = [{"boxes": torch.zeros(0, 4)}, {"boxes": torch.tensor([[10.0, 10, 60, 60]])}]
    _, losses = network(norm_layer=SyncBatchNorm).train()(images, maps, targets)
    assert all(loss.isfinite() for loss in losses.values())


def test_mixed_precision_does_not_round_boxes():
    images, maps = inputs()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        boxes, _ = network().eval()(images, maps)
    assert all(each.dtype is torch.float32 for each in boxes)
    corners = boxes[0][boxes[0] > 64]
    assert (corners != corners.bfloat16()).any()
