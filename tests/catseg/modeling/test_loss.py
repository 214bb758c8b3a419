import pytest
import torch

from catseg.modeling.loss import binary_cross_entropy
from catseg.modeling.reference import dense_binary_cross_entropy

IGNORE = 255


def random_labels(num_classes, size):
    labels = torch.randint(0, num_classes + 1, size)
    return torch.where(labels == num_classes, IGNORE, labels)


@pytest.mark.parametrize("class_chunk", [1, 4, 100])
def test_equals_the_dense_one_hot_formulation_with_gradients(class_chunk):
    torch.manual_seed(0)
    logits = torch.randn(2, 7, 5, 6, dtype=torch.float64, requires_grad=True)
    sem_seg = random_labels(7, (2, 13, 10))
    expected = dense_binary_cross_entropy(logits, sem_seg, IGNORE)
    loss = binary_cross_entropy(logits, sem_seg, IGNORE, class_chunk)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))


def test_ignored_pixels_count_in_the_mean_as_pixels_of_no_class():
    logits = torch.full((1, 2, 2, 2), 3.0)
    ignored = binary_cross_entropy(logits, torch.full((1, 2, 2), IGNORE), IGNORE)
    torch.testing.assert_close(ignored, torch.nn.functional.softplus(torch.tensor(3.0)))


def test_labels_above_255_are_counted():
    logits = torch.zeros(1, 300, 2, 2)
    logits[:, 299] = 5.0
    right = binary_cross_entropy(logits, torch.full((1, 2, 2), 299), ignore_label=65535)
    wrong = binary_cross_entropy(logits, torch.full((1, 2, 2), 43), ignore_label=65535)
    assert right < wrong


def test_reduced_precision_logits_are_summed_in_float32():
    logits = torch.randn(1, 3, 4, 4).bfloat16().requires_grad_()
    loss = binary_cross_entropy(logits, torch.zeros(1, 8, 8, dtype=torch.long), IGNORE)
    loss.backward()
    assert loss.dtype == torch.float32 and logits.grad.dtype == torch.bfloat16
