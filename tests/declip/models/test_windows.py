import pytest
import torch
import torch.nn.functional as F

from declip.models.windows import WindowGrid

PATCH = 8


def step_by_step(image, window, stride, labels_size, patch_logits):
    """One window after another: cut, pad, upsample, cut off the padding, average, resize."""
    height, width = image.shape[-2:]
    kernel = (min(window or height, height), min(window or width, width))
    tops = [*range(0, height - kernel[0], stride), height - kernel[0]]
    lefts = [*range(0, width - kernel[1], stride), width - kernel[1]]
    total, count = 0, torch.zeros(height, width, dtype=image.dtype)
    for top in tops:
        for left in lefts:
            crop = image[:, top : top + kernel[0], left : left + kernel[1]]
            padded = F.pad(crop, (0, -kernel[1] % PATCH, 0, -kernel[0] % PATCH))
            logits = patch_logits(padded[None])
            upsampled = F.interpolate(logits, size=padded.shape[-2:], mode="bilinear", align_corners=False)[0]
            canvas = torch.zeros(len(upsampled), height, width, dtype=image.dtype)
            canvas[:, top : top + kernel[0], left : left + kernel[1]] = upsampled[:, : kernel[0], : kernel[1]]
            total = total + canvas
            count[top : top + kernel[0], left : left + kernel[1]] += 1
    return F.interpolate((total / count)[None], size=labels_size, mode="bilinear", align_corners=False)[0]


def patch_means(images):
    """Stands for an encoder and its text: 5 logits per patch."""
    weight = torch.randn(5, 3, PATCH, PATCH, generator=torch.Generator().manual_seed(1), dtype=images.dtype)
    return F.conv2d(images, weight, stride=PATCH)


@pytest.mark.parametrize(
    ("size", "window", "stride", "labels_size"),
    [
        ((64, 96), 32, 16, (64, 96)),  # windows that fit
        ((67, 101), 32, 12, (133, 59)),  # odd sizes; the last window moves back
        ((45, 71), 48, 16, (90, 90)),  # shorter than a window along one side, padded
        ((37, 53), 0, 16, (37, 53)),  # the whole image at once
        ((33, 90), 33, 7, (20, 200)),  # windows that are no multiple of the patch
    ],
)
def test_stitching_equals_one_window_at_a_time(size, window, stride, labels_size):
    torch.manual_seed(0)
    image = torch.randn(3, *size, dtype=torch.float64)
    grid = WindowGrid.of(size, window, stride, PATCH)
    rows, columns = grid.way_back(labels_size, torch.device("cpu"), torch.float64)
    stitched = rows @ grid.lay_out(patch_means(grid.cut(image))) @ columns.T
    expected = step_by_step(image, window, stride, labels_size, patch_means)
    torch.testing.assert_close(stitched, expected, rtol=1e-12, atol=1e-12)


def test_averaging_windows_that_agree_gives_the_image():
    image = torch.randn(3, 45, 71)
    grid = WindowGrid.of((45, 71), window=16, stride=11)
    torch.testing.assert_close(grid.average(grid.cut(image)), image)
