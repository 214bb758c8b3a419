import pytest
import torch
import torch.nn.functional as F

from declip.losses import ContentLoss
from declip.models.features import DenseFeatures
from declip.teachers.targets import CropEmbeddings


def content_loss(content, boxes, embeddings):
    return ContentLoss(patch_size=16)(DenseFeatures(content, (), {}), CropEmbeddings(tuple(boxes), embeddings)).value


def test_it_is_the_cosine_distance_of_regions_and_crops():
    features = torch.randn(2, 5, dtype=torch.float64)
    content = features[:, :, None, None].expand(-1, -1, 4, 6)  # each image the same everywhere
    boxes = [torch.tensor([[0.0, 0.0, 96.0, 64.0]]), torch.tensor([[0.0, 0.0, 48.0, 32.0], [48.0, 32.0, 96.0, 64.0]])]
    crops = torch.randn(3, 5, dtype=torch.float64)
    cosines = F.cosine_similarity(features[[0, 1, 1]], crops)
    expected = 1 - (cosines[0] + (cosines[1] + cosines[2]) / 2) / 2
    torch.testing.assert_close(content_loss(content, boxes, crops), expected)


def test_a_box_takes_the_features_it_encloses():
    content = torch.zeros(1, 2, 4, 8, dtype=torch.float64)
    content[:, 0, :, :4], content[:, 1, :, 4:] = 1, 1
    boxes = [torch.tensor([[0.0, 0.0, 48.0, 64.0], [80.0, 0.0, 128.0, 64.0]])]
    left, right = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    same = content_loss(content, boxes, torch.stack([left, right]).double())
    swapped = content_loss(content, boxes, torch.stack([right, left]).double())
    torch.testing.assert_close(torch.stack([same, swapped]), torch.tensor([0.0, 1.0], dtype=torch.float64))


def test_there_must_be_as_many_boxes_as_embeddings_and_some_in_every_image():
    with pytest.raises(ValueError, match=r"\[1\] boxes for 2 embeddings"):
        content_loss(torch.randn(1, 5, 2, 2), [torch.zeros(1, 4)], torch.randn(2, 5))
    with pytest.raises(ValueError, match=r"\[1, 0\] boxes for 1 embeddings"):
        content_loss(torch.randn(2, 5, 2, 2), [torch.zeros(1, 4), torch.zeros(0, 4)], torch.randn(1, 5))
