import torch
from torchvision.ops import roi_align

from fvit.modeling.regions import RegionPooler, RegionSampler


def square(side):
    return torch.tensor([[0.0, 0.0, side, side]])


def test_levels_change_at_112_224_and_448_pixels():
    pooler = RegionPooler([4, 8, 16, 32], size=7)
    sides = [10, 111, 112, 223, 224, 447, 448, 2000]
    assert [int(pooler.levels(square(side))) for side in sides] == [0, 0, 1, 1, 2, 2, 3, 3]


def random_boxes(count, side):
    corners = side * 0.6 * torch.rand(count, 2)
    return torch.cat([corners, corners + 2 + side * 0.4 * torch.rand(count, 2)], dim=1)


def test_pooling_equals_roi_align_box_by_box():
    torch.manual_seed(0)
    maps, boxes = [torch.randn(2, 3, 64, 64), torch.randn(2, 3, 32, 32)], [random_boxes(9, 256), random_boxes(4, 256)]
    pooler = RegionPooler([4, 8], size=5, finest=40)
    pooled = pooler(maps, boxes)
    plain = []
    for image, some in enumerate(boxes):
        for box in some:
            level = int((box[2:] - box[:2]).prod().sqrt() >= 80)
            region = torch.cat([torch.tensor([image]), box])[None]
            plain.append(roi_align(maps[level], region, 5, 1 / (4, 8)[level], -1, aligned=True))
    torch.testing.assert_close(pooled, torch.cat(plain))


def test_strides_of_14_pixel_patches_are_those_of_16_pixel_patches_in_a_larger_frame():
    torch.manual_seed(0)
    maps, boxes = [torch.randn(1, 3, 64, 64), torch.randn(1, 3, 32, 32)], random_boxes(20, 200)
    small = RegionPooler([3.5, 7], size=7, finest=56)(maps, [boxes])
    large = RegionPooler([4, 8], size=7, finest=64)(maps, [boxes * 16 / 14])
    torch.testing.assert_close(small, large, atol=1e-4, rtol=1e-4)


def test_gradients_flow_to_every_level_that_is_pooled():
    maps = [torch.randn(1, 2, 32, 32, requires_grad=True), torch.randn(1, 2, 16, 16, requires_grad=True)]
    RegionPooler([4, 8], size=3)(maps, [torch.cat([square(40.0), square(120.0)])]).sum().backward()
    assert all(each.grad.abs().sum() > 0 for each in maps)


def test_a_sample_has_objects_and_background_and_no_more_positives_than_asked_for():
    torch.manual_seed(0)
    objects, labels = torch.tensor([[0.0, 0, 40, 40], [60, 60, 100, 100]]), torch.tensor([3, 1])
    near = objects.repeat(20, 1) + torch.randn(40, 4)
    far = random_boxes(100, 60) + 200
    sample = RegionSampler(32, 0.25)(torch.cat([near, far]), objects, labels, num_classes=5)
    assert len(sample.boxes) == 32 and sample.positive.sum() == 8
    assert (sample.labels[~sample.positive] == 5).all()
    assert (sample.labels[sample.positive] == labels[sample.objects[sample.positive]]).all()


def test_an_image_without_objects_gives_background_alone():
    sample = RegionSampler(8)(random_boxes(20, 60), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 5)
    assert len(sample.boxes) == 8 and not sample.positive.any() and (sample.labels == 5).all()


def test_objects_are_proposals_to_learn_from():
    objects = torch.tensor([[0.0, 0, 40, 40]])
    sample = RegionSampler(8)(torch.zeros(0, 4), objects, torch.tensor([2]), 5)
    assert torch.equal(sample.boxes, objects) and sample.labels.tolist() == [2]


def test_mixed_precision_does_not_round_boxes():
    torch.manual_seed(0)
    values = torch.randn(1, 3, 160, 160).bfloat16()
    boxes, pooler = [torch.tensor([[301.3, 402.1, 333.3, 420.7]])], RegionPooler([4], size=7)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pooler([values], boxes)
    torch.testing.assert_close(pooled, pooler([values.float()], boxes))
