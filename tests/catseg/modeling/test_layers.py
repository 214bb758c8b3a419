"""The head's layers are real ones: hooks fire, wrapped layers act and train, with gradients and without."""

import pytest
import torch
from torch import nn

from catseg.modeling.aggregator import Aggregator
from catseg.modeling.fused import FusedClassAggregation, fused_form
from catseg.modeling.head import CATSegHead


def make_head():
    torch.manual_seed(0)
    aggregator = Aggregator(
        embed_dim=8,
        hidden_dim=16,
        num_layers=2,
        num_heads=2,
        window_size=4,
        padded_classes=6,
        guidance_dims=(8, 6),
        decoder_dims=(16, 8),
        decoder_guidance_dims=((6, 4), (5, 3)),
    )
    head = CATSegHead(aggregator=aggregator, guidance_width=8, guidance_dims=(6, 5))
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    return head


@pytest.fixture
def head():
    return make_head()


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    features, *hidden = (torch.randn(2, 8, 6, 6, generator=generator) for _ in range(3))
    return features, hidden, torch.randn(4, 1, 8, generator=generator)


def run(head, inputs, training):
    head.train(training)
    with torch.set_grad_enabled(training):
        return head(*inputs)


class LowRank(nn.Module):
    """A linear layer with a trainable low-rank addition."""

    def __init__(self, layer, rank=2):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


MODULES = [name for name, module in make_head().named_modules() if name and not isinstance(module, nn.ModuleList)]
LINEAR = [name for name, module in make_head().named_modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_forward_hook_on_every_module_fires(head, inputs, training):
    fired = set()
    called = {name: module for name, module in head.named_modules() if not isinstance(module, nn.ModuleList)}
    for name, module in called.items():
        module.register_forward_hook(lambda *_, name=name: fired.add(name))
    run(head, inputs, training)
    assert fired == set(called)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_forward_hook_on_a_single_layer_changes_the_output(head, inputs, training):
    before = run(head, inputs, training)
    head.aggregator.layers[0].spatial.block.norm1.register_forward_hook(lambda module, args, output: output + 1)
    assert not torch.allclose(run(head, inputs, training), before)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", MODULES)
def test_a_forward_hook_on_one_module_alone_fires_and_keeps_what_it_saw(head, inputs, name, training):
    seen = []
    head.get_submodule(name).register_forward_hook(
        lambda module, args, output: seen.extend(
            (each, each.clone()) for each in (*args, output) if torch.is_tensor(each)
        )
    )
    run(head, inputs, training)
    assert seen and all(torch.equal(kept, copy) for kept, copy in seen)


@pytest.mark.parametrize("name", ["aggregator.decoder.stage1.up", "aggregator.layers.0.spatial.block"])
def test_a_backward_hook_fires(head, inputs, name):
    fired = []
    head.get_submodule(name).register_full_backward_hook(lambda *_: fired.append(name))
    run(head, inputs, training=True).square().sum().backward()
    assert fired


def test_a_hook_on_all_modules_sees_every_one(head, inputs):
    seen = set()
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: seen.add(module))
    run(head, inputs, training=False)
    handle.remove()
    assert seen >= {head.get_submodule(name) for name in MODULES}


def test_a_forward_of_its_own_acts(head, inputs):
    before = run(head, inputs, training=False)
    value = head.aggregator.layers[0].category.value
    plain = value.forward
    value.forward = lambda x: 2 * plain(x)
    assert not torch.allclose(run(head, inputs, training=False), before)


def test_every_projection_of_the_aggregation_is_a_layer():
    assert len(LINEAR) == 2 * (2 * 8 + 7) + 1


@pytest.mark.parametrize("name", LINEAR)
def test_a_wrapped_linear_layer_acts_and_trains(head, inputs, name):
    before = {training: run(head, inputs, training) for training in (True, False)}
    parent, _, attribute = name.rpartition(".")
    wrapped = LowRank(head.get_submodule(name))
    setattr(head.get_submodule(parent), attribute, wrapped)
    for training, output in before.items():
        assert not torch.allclose(run(head, inputs, training), output)
    run(head, inputs, training=True).square().sum().backward()
    assert wrapped.up.weight.grad.abs().sum() > 0 and wrapped.down.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_fused_forms_equal_the_layers(head, inputs, dtype, tolerance):
    head, (features, hidden, text) = head.eval().to(dtype), inputs
    inputs = features.to(dtype), [each.to(dtype) for each in hidden], text.to(dtype)
    with torch.no_grad():
        assert isinstance(fused_form(head.aggregator.layers[0].category), FusedClassAggregation)
        fused = head(*inputs)
    expected = head(*inputs)
    torch.testing.assert_close(fused, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


def test_attention_runs_as_it_is_where_gradients_are_wanted(head):
    layer = head.aggregator.layers[0]
    assert all(fused_form(stage) is stage for stage in (layer.spatial, layer.category))


def test_the_decoders_form_gives_its_layers_their_gradients(head):
    decoder = head.aggregator.decoder.double()
    x = torch.randn(1, 3, 36, 16, dtype=torch.float64)
    guidance = torch.randn(1, 4, 12, 12, dtype=torch.float64), torch.randn(1, 3, 24, 24, dtype=torch.float64)
    gradients = []
    for form in (decoder, fused_form(decoder)):
        loss = form(x, form.prepare(guidance), (6, 6)).square().sum()
        gradients.append(torch.autograd.grad(loss, list(decoder.parameters())))
    assert fused_form(decoder) is not decoder
    torch.testing.assert_close(*gradients)


def test_the_two_halves_of_a_projection_start_as_one_layer_would():
    torch.manual_seed(3)
    halves = Aggregator(embed_dim=8).layers[0].category
    bound = (128 + 128) ** -0.5 + 1e-6
    assert halves.query.bias.abs().max() <= bound
    for half in (halves.query.weight, halves.query_guidance.weight):
        assert 0.9 * bound < half.abs().max() <= bound
