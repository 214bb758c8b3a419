"""How many operators a GPU would be asked to run, counted on tensors that claim to be on one and hold nothing."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.config import get_catseg_cfg
from catseg.modeling import aggregator, chunks, loss, meta_arch
from catseg.modeling.loss import binary_cross_entropy
from d2host import build_model

BATCH, SIDE, MOST = 4, 384, 1500


class Launches(TorchDispatchMode):
    """Counts operators that run something: all but views and questions."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.namespace == "aten" and not function.is_view
        return function(*args, **(kwargs or {}))


class FixedEmbeddings(nn.Module):
    """Class embeddings of a vocabulary that has been seen before."""

    def __init__(self, width):
        super().__init__()
        self.width = width

    def forward(self, encoder, vocabulary):
        return torch.empty(len(vocabulary), 1, self.width, device=encoder.pixel_mean.device)


@pytest.fixture(scope="module")
def fake():
    return FakeTensorMode(allow_non_fake_inputs=True)


def fake_model(fake, device):
    options = ["MODEL.DEVICE", "cpu", "MODEL.ENCODER.WEIGHTS", "random", "DATASETS.TRAIN", "()"]
    model = build_model(get_catseg_cfg("declip_catseg_vitb.yaml", options)).to("meta")
    model.class_embeddings = FixedEmbeddings(model.encoder.embed_dim)
    with fake:
        return model.to_empty(device=device)


@pytest.fixture(scope="module")
def model_on_a_gpu(fake):
    return fake_model(fake, "cuda")


@pytest.fixture
def launches(fake, model_on_a_gpu, monkeypatch):
    monkeypatch.setattr(chunks, "free_memory", lambda device: 72 * 2**30)
    monkeypatch.setattr(meta_arch, "check_finite", lambda scores, what: None)  # there are no values to look at

    def count(num_classes, training):
        model = model_on_a_gpu.train(training)
        model.vocabulary = tuple(f"class {index}" for index in range(num_classes))
        with fake, Launches() as launched:
            images = torch.zeros(BATCH, 3, SIDE, SIDE, device="cuda")
            labels = torch.zeros(BATCH, SIDE, SIDE, dtype=torch.long, device="cuda")
            if training:
                binary_cross_entropy(model.logits(images, model.vocabulary), labels, model.ignore_label)
            else:
                model.predict_labels([{"image": image} for image in images])
        return launched.count

    try:
        count(1, True)  # what is computed once and kept, such as the windows' layout, is not counted
    except torch.AcceleratorError:
        pytest.skip("this torch wants a GPU for tensors that only claim to be on one")
    return count


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_a_batch_on_a_gpu_takes_few_operators_however_many_classes(launches, training):
    few, many = launches(20, training), launches(171, training)
    assert few == many <= MOST


def test_more_classes_than_are_aggregated_add_only_their_selection(launches):
    assert launches(847, training=True) <= launches(256, training=True) + 20


def test_the_backward_pass_takes_few_operators_however_many_classes(fake, monkeypatch):
    """On a CPU that works on as much at once as a GPU: autograd wants the device itself."""
    monkeypatch.setattr(chunks, "free_memory", lambda device: 72 * 2**30)
    for module in (aggregator, loss):
        monkeypatch.setattr(module, "numbers_at_once", lambda *_: chunks.numbers_at_once(torch.device("cuda")))
    monkeypatch.setattr(aggregator, "needs_recomputation", lambda *_: False)
    model, counts = fake_model(fake, "cpu").train(), []
    for classes in (20, 171):
        with fake, Launches() as launched:
            images, labels = torch.zeros(BATCH, 3, SIDE, SIDE), torch.zeros(BATCH, SIDE, SIDE, dtype=torch.long)
            logits = model.logits(images, [f"class {index}" for index in range(classes)])
            lost = binary_cross_entropy(logits, labels, model.ignore_label)
            launched.count = 0
            lost.backward()
        model.zero_grad()
        counts.append(launched.count)
    assert counts[0] == counts[1] <= 2 * MOST
