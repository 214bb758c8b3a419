import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from einops import rearrange
from torch.utils._python_dispatch import TorchDispatchMode

from d2host.engine.tensor_cache import TensorCache
from declip.losses import ContextLoss, KLDistance
from declip.models.features import DenseFeatures
from declip.teachers.base import Views
from declip.teachers.completed import Completed, Order
from declip.teachers.diffusion import DiffusionAttention, DiffusionOptions
from declip.teachers.foundation import FoundationTeacher
from declip.teachers.targets import Affinities, Features
from tests.tiny_diffusion import pixel_unet

SIDE = 4  # pixels per token of the diffusion model


def completed(order=Order.AFFINITY, cache=None):
    torch.manual_seed(0)
    diffusion = DiffusionAttention(pixel_unet(), DDIMScheduler(), options=DiffusionOptions(cells=SIDE))
    return Completed(FoundationTeacher("nano-vfm", "random"), diffusion, order, cache)


@pytest.fixture(scope="module")
def views():
    generator = torch.Generator().manual_seed(3)
    draw = lambda side: torch.randint(0, 256, (2, 3, 2 * side, 4 * side), generator=generator).float()  # noqa: E731
    return Views(student=draw(8), foundation=draw(8), diffusion=draw(SIDE), digests=("00a", "00b"))


@pytest.mark.parametrize("order", Order)
def test_it_teaches_features_and_the_product_of_cosines_and_attention(order, views):
    teacher = completed(order)
    target = teacher.teach(views)
    assert isinstance(target, Features) and isinstance(target, Affinities)
    assert torch.equal(target.map, teacher.foundation.teach(views).map)
    for index, affinity in enumerate(target.images):
        units = F.normalize(rearrange(target.map[index], "e h w -> (h w) e"), dim=1)
        attention = teacher.diffusion(views.diffusion[index], (2, 4), views.digests[index]).half().float()
        cosines = units @ units.T
        expected = cosines @ attention if order is Order.AFFINITY else attention @ cosines
        torch.testing.assert_close(affinity.rows(slice(0, 8)), expected, rtol=1e-4, atol=1e-5)


def test_the_context_loss_learns_from_the_completed_affinity(views):
    teacher = completed()
    target = teacher.teach(views)
    features = DenseFeatures(None, (torch.randn(2, 8, 5, requires_grad=True),), {})
    loss = ContextLoss(distance=KLDistance(), rows_at_once=3)
    found = loss(features, target).value
    torch.testing.assert_close(found, loss(features, Affinities(target.images)).value)
    assert not torch.equal(found, loss(features, Features(target.map)).value)


def test_a_cached_run_teaches_the_same_without_looking_again(views, tmp_path):
    fresh = completed()
    options = {"folder": tmp_path, "settings": fresh.diffusion.fingerprint(), "limit": 10**6, "key": "cache"}
    first = completed(cache=TensorCache(**options))
    found = [first.teach(views).images, fresh.teach(views).images]
    again = completed(cache=TensorCache(**options))
    looked = []
    again.diffusion.register_forward_hook(lambda *_: looked.append(1))
    found.append(again.teach(views).images)
    assert not looked and len(list(tmp_path.glob("*/*.safetensors"))) == 2
    for images in zip(*found, strict=True):
        assert all(torch.equal(images[0].right, other.right) for other in images[1:])


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operator makes."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.size = max(self.size, result.numel() * result.element_size())
        return result


@pytest.mark.parametrize("order", Order)
def test_a_cached_map_is_whole_in_half_precision_alone(order, tmp_path):
    teacher, tokens = completed(order, TensorCache(tmp_path, {}, 10**8, "cache")), 32 * 48
    teacher.cache.put("00ff", {"attention": torch.rand(tokens, tokens)})
    with Largest() as largest:
        teacher(torch.randn(1, 16, 32, 48), torch.zeros(1, 3, 4 * 32, 4 * 48), ["00ff"])
    assert largest.size <= 2 * tokens * tokens


def test_an_image_is_completed_alike_whatever_stands_beside_it(views):
    alone = Views(views.student[1:], views.foundation[1:], diffusion=views.diffusion[1:], digests=views.digests[1:])
    attention = [completed().teach(each).images[-1].right for each in (views, alone)]
    torch.testing.assert_close(*attention)


def test_products_run_in_autocasts_precision(views):
    with torch.autocast("cpu", torch.bfloat16):
        affinity = completed().teach(views).images[0]
    assert affinity.rows(slice(0, 2)).dtype == torch.bfloat16
    plain = completed().teach(views).images[0]
    torch.testing.assert_close(affinity.rows(slice(0, 8)).float(), plain.rows(slice(0, 8)), rtol=0.05, atol=0.02)


def test_it_never_trains():
    teacher = completed().train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
