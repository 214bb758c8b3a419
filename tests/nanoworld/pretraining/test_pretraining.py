import pytest
import torch
import torch.nn.functional as F

from d2host.engine.errors import ConfigError
from declip.weights.files import read_state_dict
from nanoworld.pretraining import (
    ContrastivePretraining,
    PretrainingTrainer,
    SelfSupervisedPretraining,
    build_pretraining,
    get_pretraining_cfg,
)
from nanoworld.pretraining.scenes import CaptionedPhotos, TwoViews
from nanoworld.pretraining.self_supervised import from_other_view, spectral_loss
from nanoworld.weights import shipped_weights


def test_samples_depend_on_seed_and_place_alone():
    first, again = CaptionedPhotos(0, 3, 64)[1, 5], CaptionedPhotos(0, 3, 64)[1, 5]
    assert first["photos"].shape == (3, 3, 64, 64) and torch.equal(first["photos"], again["photos"])
    assert not torch.equal(first["photos"], CaptionedPhotos(0, 3, 64)[0, 5]["photos"])
    assert first["tokens"].shape[0] == 3


def test_contrastive_loss_is_least_for_matching_pairs():
    torch.manual_seed(0)
    model = ContrastivePretraining()
    batch = [CaptionedPhotos(0, 3, 64)[0, index] for index in range(4)]
    loss = model(batch)["loss_contrastive"]
    loss.backward()
    assert 0 < loss < 6 and model.encoder.clip.visual.conv1.weight.grad.abs().sum() > 0


def test_the_other_view_is_seen_where_it_overlaps():
    """Maps that hold the scene's coordinates are found again at the places of the other view."""
    windows = torch.tensor([[0.0, 0.0, 96.0, 96.0], [128.0, 32.0, 32.0, 128.0]])  # the second is mirrored

    def coordinates(window):
        centers = (torch.arange(12) + 0.5) / 12
        x = window[0] + centers * (window[2] - window[0])
        y = window[1] + centers * (window[3] - window[1])
        return torch.stack([x.expand(12, 12), y[:, None].expand(12, 12)])

    maps = torch.stack([coordinates(window) for window in windows])
    seen, overlap = from_other_view(maps, windows)
    inside = (maps[0] > 36).all(dim=0) & overlap[0]
    assert inside.sum() > 30 and not overlap[0, 0, 0]
    torch.testing.assert_close(seen[0][:, inside], maps[0][:, inside], rtol=1e-4, atol=1e-3)


def test_the_spectral_loss_is_that_of_all_pairs():
    torch.manual_seed(0)
    features, others = (F.normalize(torch.randn(2, 5, 3, 4, dtype=torch.float64), dim=1) for _ in range(2))
    overlap = torch.rand(2, 3, 4) < 0.5
    attraction, repulsion = spectral_loss(features, others, overlap, repulsion=7.0)
    tokens = features.permute(0, 2, 3, 1).reshape(-1, 5)
    pairs = [float(one @ other) ** 2 for one in tokens for other in tokens]
    assert repulsion.item() == pytest.approx(7 * sum(pairs) / len(pairs))
    cosines = F.cosine_similarity(features, others, dim=1)[overlap]
    assert attraction.item() == pytest.approx(2 - 2 * cosines.mean().item())


def test_features_that_name_places_beat_features_that_do_not():
    places = torch.eye(12).reshape(1, 12, 3, 4).expand(2, -1, -1, -1)
    everywhere = torch.ones(2, 3, 4, dtype=torch.bool)
    constant = torch.full((2, 12, 3, 4), 12**-0.5)
    assert sum(spectral_loss(places, places, everywhere, 8.0)) < sum(spectral_loss(constant, constant, everywhere, 8.0))
    assert sum(spectral_loss(places, places, everywhere, 8.0)) < sum(
        spectral_loss(places, places.flip(2), everywhere, 8.0)
    )


def test_hidden_patches_are_not_seen():
    def losses(hidden_share, batch):
        torch.manual_seed(0)
        return SelfSupervisedPretraining(hidden_share)(batch)["loss_repulsion"]

    batch = [TwoViews(0, 32)[0, index] for index in range(2)]
    dark = [{**sample, "views": sample["views"] // 2} for sample in batch]
    torch.testing.assert_close(losses(0.9999, batch), losses(0.9999, dark))
    assert not torch.allclose(losses(0.5, batch), losses(0.5, dark))


def test_the_vfm_learns_from_both_terms():
    torch.manual_seed(0)
    model = SelfSupervisedPretraining()
    losses = model([TwoViews(0, 48)[0, index] for index in range(2)])
    assert set(losses) == {"loss_attraction", "loss_repulsion"}
    sum(losses.values()).backward()
    assert model.backbone.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_stochastic_depth_grows_towards_the_last_block_and_changes_no_weight():
    plain, dropping = ContrastivePretraining(), ContrastivePretraining(drop_path=0.3)
    assert dropping.encoder.state_dict().keys() == plain.encoder.state_dict().keys()
    blocks = dropping.encoder.clip.visual.transformer.resblocks
    assert [round(block.ls_2.drop_prob, 2) for block in blocks] == [0, 0.06, 0.12, 0.18, 0.24, 0.3]
    image = torch.rand(1, 3, 64, 64)
    torch.manual_seed(0)
    assert not torch.equal(dropping.encoder.encode_image(image), dropping.encoder.encode_image(image))
    assert torch.equal(dropping.eval().encoder.encode_image(image), dropping.encoder.encode_image(image))


@pytest.mark.parametrize("kind", ["clip", "vfm"])
def test_a_run_leaves_weights_and_goes_on_where_it_was(tmp_path, kind):
    size = ["MODEL.PRETRAINING.PHOTO_SIZE", "32", "MODEL.PRETRAINING.VIEW_SIZE", "32", "SOLVER.IMS_PER_BATCH", "2"]
    run = ["SOLVER.MAX_ITER", "3", "SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "0", "SOLVER.WARMUP_ITERS", "1"]
    run += ["TEST.MAX_IMAGES", "2"]
    options = ["MODEL.PRETRAINING.KIND", kind, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path), *size, *run]
    cfg = get_pretraining_cfg("", [*options, "DATALOADER.NUM_WORKERS", "0"])
    torch.manual_seed(0)
    PretrainingTrainer(cfg, build_pretraining(cfg)).run()
    weights = read_state_dict(tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    PretrainingTrainer(cfg, build_pretraining(cfg)).run(tmp_path / "model_0000001.pth")
    again = read_state_dict(tmp_path / "weights.safetensors")
    assert again.keys() == weights.keys() and all(torch.equal(again[key], weights[key]) for key in weights)


def test_impossible_values_are_refused():
    with pytest.raises(ConfigError, match="KIND is 'gan': it must be 'clip', 'vfm' or 'diffusion'"):
        get_pretraining_cfg("", ["MODEL.PRETRAINING.KIND", "gan"])
    with pytest.raises(ConfigError, match="PHOTO_SIZE is 60: it must be an integer from 16 to 512, a multiple of 8"):
        get_pretraining_cfg("", ["MODEL.PRETRAINING.PHOTO_SIZE", "60"])
    with pytest.raises(ConfigError, match=r"HIDDEN_SHARE is 1\.0"):
        get_pretraining_cfg("", ["MODEL.PRETRAINING.HIDDEN_SHARE", "1.0"])
    with pytest.raises(ConfigError, match=r"REPULSION is 0\.0"):
        get_pretraining_cfg("", ["MODEL.PRETRAINING.REPULSION", "0.0"])


def test_the_vfm_starts_from_weights():
    started = SelfSupervisedPretraining(weights="nano-vfm").backbone.state_dict()
    shipped = read_state_dict(shipped_weights("nano-vfm"))
    assert all(torch.equal(started[key], shipped[key].float()) for key in shipped)
