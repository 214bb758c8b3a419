import pytest
import torch

from d2host import build_model
from d2host.engine.errors import CheckpointError, ConfigError
from fvit.config import get_fvit_cfg
from fvit.modeling.cached_backbone import CachedBackbone

KEPT = {"INPUT__MIN_SCALE": 1.0, "INPUT__MAX_SCALE": 1.0}
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def backbone(options, tmp_path):
    def of(cache=tmp_path / "kept", **more):
        torch.manual_seed(0)
        cfg = get_fvit_cfg("fvit_nano.yaml", options(**KEPT, **{"MODEL__ENCODER__CACHE": cache, **more}))
        return build_model(cfg).backbone.train()

    return of


def looked_at(backbone):
    """The number of images that the encoder's first block is given from now on, in a list."""
    counts = []
    backbone.encoder.image_tower.blocks[0].register_forward_hook(
        lambda block, given, result: counts.append(given[0].shape[0])
    )
    return counts


def test_a_later_run_gets_the_same_maps_without_encoding_again(backbone):
    first, later = backbone(), backbone()
    counts = looked_at(later)
    found, again = first(IMAGES), later(IMAGES)
    assert not counts and found.keys() == again.keys() and len(found) == 5
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_maps_are_those_of_the_encoder_but_for_half_precision(backbone):
    plain = backbone(cache="")
    assert not isinstance(plain, CachedBackbone)
    for found, expected in zip(backbone()(IMAGES).values(), plain(IMAGES).values(), strict=True):
        assert torch.equal(found, expected.half().float())


def test_new_images_alone_are_encoded(backbone):
    kept = backbone()
    kept(IMAGES[:1])
    counts = looked_at(kept)
    maps = kept(IMAGES.flip(0))
    assert counts == [1]
    assert torch.equal(maps["dense"][1], kept(IMAGES[:1])["dense"][0])


def test_evaluation_keeps_nothing(backbone, tmp_path):
    backbone().eval()(IMAGES)
    assert not (tmp_path / "kept").exists()


def test_maps_of_another_encoder_are_refused(backbone):
    backbone()(IMAGES)
    with pytest.raises(ConfigError, match=r"\(MODEL.ENCODER.CACHE\) was filled with other settings \(.*weights"):
        backbone(MODEL__ENCODER__WEIGHTS="nano-clip")(IMAGES)


def test_maps_that_half_precision_cannot_hold_are_an_error(backbone):
    kept = backbone()
    kept.encoder.image_tower.blocks[3].register_forward_hook(lambda block, given, result: result * 1e9)
    with pytest.raises(CheckpointError, match=r"half precision, as MODEL\.ENCODER\.CACHE keeps them, are not finite"):
        kept(IMAGES)


def test_a_full_folder_leaves_maps_as_they_are(backbone, tmp_path):
    found = backbone(MODEL__ENCODER__CACHE_LIMIT=1e-9)(IMAGES)
    assert not list((tmp_path / "kept").glob("*/*"))
    assert all(torch.equal(maps, backbone()(IMAGES)[name]) for name, maps in found.items())
