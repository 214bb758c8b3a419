import torch

from fvit.modeling.mask_head import mask_targets, paste_masks


def test_a_mask_pasted_is_the_mask_that_its_targets_were_made_of():
    """A disc, whose target in its box is pasted back, but for pixels on its edge."""
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    disc = (x + 0.5 - 40) ** 2 + (y + 0.5 - 30) ** 2 < 20**2
    box = torch.tensor([[20.0, 10.0, 60.0, 50.0]])
    target = mask_targets(disc[None], box, torch.tensor([0]), 28)
    pasted = paste_masks(target[:, 0], box, (60, 80))[0]
    assert (pasted ^ disc).sum() < 0.03 * disc.sum()


def test_masks_fill_whole_boxes_and_are_cut_at_the_edges_of_the_image():
    boxes = torch.tensor([[-4.0, -4.0, 3.0, 2.0], [6.0, 1.0, 20.0, 3.0], [3.0, 3.0, 3.0, 3.0]])
    pasted = paste_masks(torch.ones(3, 28, 28), boxes, (5, 8))
    assert [mask.nonzero().amax(dim=0).tolist() for mask in pasted[:2]] == [[1, 2], [2, 7]]
    assert [int(mask.sum()) for mask in pasted] == [6, 4, 0]


def test_targets_belong_to_the_object_of_each_box():
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[1] = True
    targets = mask_targets(masks, torch.tensor([[5.0, 5, 25, 25]] * 2), torch.tensor([1, 0]), 28)
    assert targets.shape == (2, 1, 28, 28) and [each.mean().item() for each in targets] == [1, 0]
