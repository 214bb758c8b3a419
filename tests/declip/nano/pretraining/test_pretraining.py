import pytest
import torch

from declip.checkpoint import read_state_dict
from declip.errors import ConfigError
from declip.nano.pretraining import (
    ContrastivePretraining,
    PretrainingTrainer,
    SelfSupervisedPretraining,
    build_pretraining,
    get_pretraining_cfg,
)
from declip.nano.pretraining.scenes import CaptionedPhotos, TwoViews
from declip.nano.pretraining.self_supervised import balanced_assignment, from_other_view


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


def test_assignments_use_all_prototypes_equally():
    torch.manual_seed(0)
    assigned = balanced_assignment(torch.rand(400, 8) + torch.arange(8) * 0.05, 0.05, rounds=30)
    torch.testing.assert_close(assigned.sum(dim=1), torch.ones(400))
    torch.testing.assert_close(assigned.sum(dim=0), torch.full((8,), 50.0), rtol=0.1, atol=0)


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


def test_the_vfms_teacher_follows_its_student():
    torch.manual_seed(0)
    model = SelfSupervisedPretraining(num_prototypes=16, momentum=0.5)
    batch = [TwoViews(0, 48)[0, index] for index in range(2)]
    losses = model(batch)
    sum(losses.values()).backward()
    assert set(losses) == {"loss_hidden", "loss_views"}
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    with torch.no_grad():
        model.student.prototypes.zero_()
    before = model.teacher.prototypes.clone()
    model(batch)
    torch.testing.assert_close(model.teacher.prototypes, before / 2)


@pytest.mark.parametrize("kind", ["clip", "vfm"])
def test_a_run_leaves_weights_and_goes_on_where_it_was(tmp_path, kind):
    size = ["MODEL.PRETRAINING.PHOTO_SIZE", "32", "MODEL.PRETRAINING.VIEW_SIZE", "32", "SOLVER.IMS_PER_BATCH", "2"]
    run = ["SOLVER.MAX_ITER", "3", "SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "0", "SOLVER.WARMUP_ITERS", "1"]
    options = ["MODEL.PRETRAINING.KIND", kind, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path), *size, *run]
    cfg = get_pretraining_cfg("", [*options, "DATALOADER.NUM_WORKERS", "0"])
    torch.manual_seed(0)
    PretrainingTrainer(cfg, build_pretraining(cfg)).run()
    weights = read_state_dict(tmp_path / "weights.safetensors")
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    torch.manual_seed(1)
    PretrainingTrainer(cfg, build_pretraining(cfg)).run(resume=True)
    again = read_state_dict(tmp_path / "weights.safetensors")
    assert again.keys() == weights.keys() and all(torch.equal(again[key], weights[key]) for key in weights)


def test_impossible_values_are_refused():
    with pytest.raises(ConfigError, match=r"KIND is 'diffusion'|KIND 'diffusion'"):
        get_pretraining_cfg("", ["MODEL.PRETRAINING.KIND", "diffusion"])
    with pytest.raises(ConfigError, match=r"PHOTO_SIZE is 60: it must be a multiple of 8"):
        get_pretraining_cfg("", ["MODEL.PRETRAINING.PHOTO_SIZE", "60"])
    with pytest.raises(ConfigError, match=r"MOMENTUM is 1\.0"):
        get_pretraining_cfg("", ["MODEL.PRETRAINING.MOMENTUM", "1.0"])
