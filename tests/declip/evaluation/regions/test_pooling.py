import pytest
import torch
import torch.nn.functional as F

from declip.evaluation.regions.pooling import cut_crops, pool_boxes, pool_masks

PATCH = 8


def test_a_box_over_whole_patches_gives_their_mean():
    features = torch.randn(4, 6, 8)
    pooled = pool_boxes(features, torch.tensor([[16.0, 8.0, 48.0, 40.0]]), PATCH)
    torch.testing.assert_close(pooled[0], features[:, 1:5, 2:6].mean(dim=(1, 2)), rtol=1e-4, atol=1e-4)


def test_a_mask_gives_the_mean_of_the_patches_it_covers():
    torch.manual_seed(0)
    features = torch.randn(4, 6, 8)
    masks = F.interpolate((torch.rand(3, 1, 6, 8) < 0.4).float(), scale_factor=PATCH)[:, 0].bool()
    pooled = pool_masks(features, masks)
    for mask, own in zip(masks, pooled, strict=True):
        covered = F.interpolate(mask[None, None].float(), size=(6, 8), mode="bilinear")[0, 0] > 0
        torch.testing.assert_close(own, features[:, covered].mean(dim=1))


def test_a_mask_too_small_for_the_grid_takes_the_patch_it_lies_in():
    features, mask = torch.randn(4, 6, 8), torch.zeros(1, 48, 64, dtype=torch.bool)
    mask[0, 17, 40] = True
    torch.testing.assert_close(pool_masks(features, mask)[0], features[:, 2, 5])
    with pytest.raises(ValueError, match="without a pixel"):
        pool_masks(features, torch.zeros(1, 48, 64, dtype=torch.bool))


def test_crops_are_the_boxes_enlarged_within_the_image():
    image = torch.arange(40 * 60, dtype=torch.uint8).expand(3, -1).reshape(3, 40, 60)
    boxes = torch.tensor([[10.0, 10.0, 30.0, 20.0], [50.0, 30.0, 60.0, 40.0]])
    tight, wide = cut_crops(image, boxes, torch.tensor([1.0, 1.5]), side=10)
    expected = F.interpolate(image[None, :, 10:20, 10:30].float(), (10, 10), mode="bicubic", antialias=True)
    torch.testing.assert_close(tight, expected[0].clamp(0, 255))
    outside = F.interpolate(image[None, :, 27:40, 47:60].float(), (10, 10), mode="bicubic", antialias=True)
    torch.testing.assert_close(wide, outside[0].clamp(0, 255))
