import pytest
import torch

from d2host.engine.errors import CheckpointError
from nanoworld.diffusion import SIDE, create_nano_diffusion
from nanoworld.evaluation import scenes_of
from nanoworld.pretraining import PretrainingTrainer, build_pretraining, get_pretraining_cfg
from nanoworld.pretraining.scenes import WholeScenes

diffusers = pytest.importorskip("diffusers")


@pytest.fixture
def cfg(tmp_path):
    options = ["MODEL.PRETRAINING.KIND", "diffusion", "SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "1"]
    options += ["SOLVER.IMS_PER_BATCH", "2", "TEST.EVAL_PERIOD", "0", "TEST.MAX_IMAGES", "2", "MODEL.DEVICE", "cpu"]
    return get_pretraining_cfg("", [*options, "OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", "0"])


def test_noise_depends_on_the_sample_alone_and_is_predicted_at_its_size(cfg):
    torch.manual_seed(0)
    model = build_pretraining(cfg)
    batch = [WholeScenes(0, SIDE)[0, index] for index in range(2)]
    loss = model(batch)["loss_noise"]
    assert torch.equal(loss, model(batch)["loss_noise"]) and 0.5 < loss < 3
    loss.backward()
    assert model.unet.conv_in.weight.grad.abs().sum() > 0
    assert set(model.eval().evaluate(scenes_of(2, 2))) == {f"noise_error_{step}" for step in (20, 81, 300, 600)}


def test_a_run_leaves_a_folder_that_diffusers_reads(cfg, tmp_path):
    torch.manual_seed(0)
    PretrainingTrainer(cfg, build_pretraining(cfg)).run()
    unet = diffusers.UNet2DModel.from_pretrained(tmp_path / "weights", subfolder="unet")
    own = create_nano_diffusion(str(tmp_path / "weights"))
    assert all(torch.equal(own.state_dict()[key], tensor.float()) for key, tensor in unet.state_dict().items())
    assert diffusers.DDIMScheduler.from_pretrained(tmp_path / "weights", subfolder="scheduler").config.beta_end == 0.012


def test_weights_of_another_model_are_refused(tmp_path):
    with pytest.raises(CheckpointError):
        create_nano_diffusion(str(tmp_path))
