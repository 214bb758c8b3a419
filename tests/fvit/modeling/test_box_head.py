import math

import pytest
import torch
import torch.nn.functional as F

from fvit.modeling.box_head import BoxHead, box_loss, classification_loss


def test_classes_that_labels_never_name_are_no_negatives():
    torch.manual_seed(0)
    logits = torch.randn(6, 5, requires_grad=True)
    unused = torch.tensor([False, True, False, True, False])
    labels = torch.tensor([0, 2, 4, 4, 0, 2])
    loss = classification_loss(logits, labels, 0.6, unused)
    loss.backward()
    assert not logits.grad[:, unused].any() and logits.grad[:, ~unused].all()
    renumbered = torch.tensor([0, 0, 1, 0, 2])[labels]
    alone = classification_loss(logits[:, ~unused], renumbered, 0.6, torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(loss, alone)


def test_background_counts_less_and_the_sum_is_over_the_number_of_boxes():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    loss = classification_loss(logits, torch.tensor([0, 1, 1]), 0.6, torch.zeros(2, dtype=torch.bool))
    by_hand = (math.log(1 + math.exp(-2)) + 2 * 0.6 * math.log(1 + math.exp(-1))) / 3
    assert loss.item() == pytest.approx(by_hand)


def test_the_loss_of_boxes_is_l1_of_scaled_deltas():
    boxes, objects = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[1.0, 2, 11, 22]])
    loss = box_loss(torch.zeros(1, 4), boxes, objects, samples=4)
    assert loss.item() == pytest.approx((10 * 1 / 10 + 10 * 2 / 20) / 4)  # centres moved, standard deviation 0.1


def test_logits_are_cosines_times_the_temperature():
    torch.manual_seed(0)
    head = BoxHead(channels=4, size=3, embed_dim=8, convs=1).eval()
    regions, texts = torch.randn(5, 4, 3, 3), F.normalize(torch.randn(6, 8), dim=1)
    logits, _ = head(regions, texts)
    cosines = F.cosine_similarity(head.name(head.shared(regions))[:, None], texts[None], dim=2)
    torch.testing.assert_close(logits, 50 * cosines)


def test_a_fixed_temperature_holds_in_evaluation_alone():
    torch.manual_seed(0)
    head = BoxHead(channels=4, size=3, embed_dim=8, convs=1, temperature=50.0, fixed_temperature=25.0)
    head.shared.eval()
    regions, texts = torch.randn(5, 4, 3, 3), F.normalize(torch.randn(6, 8), dim=1)
    learned = head(regions, texts)[0]
    head.eval()
    torch.testing.assert_close(2 * head(regions, texts)[0], learned)


def test_mixed_precision_does_not_round_cosines():
    torch.manual_seed(0)
    head = BoxHead(channels=4, size=3, embed_dim=64, convs=1).eval()
    regions, texts = torch.randn(5, 4, 3, 3), F.normalize(torch.randn(6, 64), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = head(regions, texts)
        names = F.normalize(head.name(head.shared(regions)).float(), dim=1)
    torch.testing.assert_close(logits, 50 * names @ texts.T)
