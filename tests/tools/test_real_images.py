"""Three real ADE20K images through the whole pipeline."""

import json
from functools import partial
from pathlib import Path

import pytest
from diffusers import UNet2DConditionModel

from tests.tiny_diffusion import save_configs, stable_vae

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
ADE = "('ade20k_150_test_sem_seg',)"

pytestmark = pytest.mark.skipif(
    not (SHARED / "ADEChallengeData2016").is_dir(), reason="the real ADE20K samples are not here"
)


@pytest.fixture
def real_tool(tool, python, environment, monkeypatch):
    monkeypatch.setitem(environment, "DETECTRON2_DATASETS", str(SHARED))
    monkeypatch.setitem(environment, "OMP_NUM_THREADS", "2")
    return partial(tool, launcher=python)


def results(folder):
    return json.loads((folder / "inference/results.json").read_text())["ade20k_150_test_sem_seg"]


@pytest.mark.slow
def test_a_nano_model_learns_three_images_by_heart_and_its_checkpoint_repeats_the_figure(real_tool, tmp_path):
    config = [
        *("--config-file", "declip_catseg_nano.yaml", "DATASETS.TRAIN", ADE, "DATASETS.TEST", ADE),
        *("MODEL.ENCODER.GRID", "16", "MODEL.SEM_SEG_HEAD.WINDOW_SIZE", "8", "MODEL.SEM_SEG_HEAD.PADDED_CLASSES", "0"),
        *("INPUT.MIN_SIZE_TRAIN", "(160,)", "INPUT.CROP.ENABLED", "False", "INPUT.RANDOM_FLIP", "none"),
        *("SOLVER.IMS_PER_BATCH", "3", "SOLVER.MAX_ITER", "400", "SOLVER.CHECKPOINT_PERIOD", "0"),
        *("SOLVER.BASE_LR", "0.0007", "SOLVER.CLIP_MULTIPLIER", "0.4", "SOLVER.WARMUP_ITERS", "20"),
        *("MODEL.SEM_SEG_HEAD.DECODER_DIMS", "(32,16)", "SOLVER.WEIGHT_DECAY", "0.0"),
    ]
    trained = real_tool("train_net.py", *config, "OUTPUT_DIR", tmp_path / "trained")
    assert trained.returncode == 0, trained.stderr[-2000:]
    weights = tmp_path / "trained" / "model_final.pth"
    again = real_tool(
        "train_net.py", "--eval-only", *config, "OUTPUT_DIR", tmp_path / "again", "MODEL.WEIGHTS", weights
    )
    assert again.returncode == 0, again.stderr[-2000:]
    assert results(tmp_path / "trained")["pACC"] > 90
    assert results(tmp_path / "again") == results(tmp_path / "trained")


@pytest.mark.slow
def test_the_published_configuration_runs_on_real_images(real_tool, tmp_path):
    config = ["--config-file", "declip_catseg_vitb.yaml", "DATALOADER.NUM_WORKERS", "1"]
    training = ["DATASETS.TRAIN", ADE, "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATASETS.TEST", "()"]
    random = ["MODEL.ENCODER.WEIGHTS", "random", "OUTPUT_DIR", tmp_path / "trained"]
    result = real_tool("train_net.py", *config, *training, *random)
    assert result.returncode == 0, result.stderr[-2000:]
    evaluation = ["DATASETS.TEST", ADE, "OUTPUT_DIR", tmp_path / "evaluated"]
    whole = ["MODEL.WEIGHTS", tmp_path / "trained/model_final.pth"]  # brings the encoder's weights
    result = real_tool("train_net.py", "--eval-only", *config, *evaluation, *whole)
    assert result.returncode == 0, result.stderr[-2000:]
    assert 0 <= results(tmp_path / "evaluated")["mIoU"] < 10  # all but random: only the path is real


@pytest.mark.slow
@pytest.mark.parametrize("images", ["coco/val2017", "ADEChallengeData2016/images"])
def test_distillation_takes_steps_on_real_images(images, real_tool, tmp_path):
    config = [
        *("--config-file", "distill_eva_vitb16.yaml", "MODEL.ENCODER.WEIGHTS", "random"),
        *("MODEL.TEACHER.WEIGHTS", "random"),
        *("DATASETS.IMAGES", SHARED / images, "INPUT.MAX_CROPS", "9", "DATALOADER.NUM_WORKERS", "1"),
        *("SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "3", "SOLVER.WARMUP_ITERS", "1", "OUTPUT_DIR", tmp_path),
        *("TEST.EVAL_PERIOD", "3", "TEST.REGIONS", SHARED / "coco/annotations/panoptic_val2017.json"),
        *("TEST.IMAGE_ROOT", SHARED / "coco/val2017"),
    ]
    result = real_tool("train_declip.py", *config)
    assert result.returncode == 0, result.stderr[-2000:]
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    merged = {key: value for line in lines for key, value in line.items()}
    assert merged["loss_content"] > 0 and merged["loss_context"] > 0 and "regions/stuff_mAcc" in merged
    assert (tmp_path / "declip.safetensors").is_file()


@pytest.mark.slow
def test_generalized_distillation_takes_steps_on_real_images(real_tool, tmp_path):
    unet = {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 32, "attention_head_dim": 2}
    folder = save_configs(tmp_path / "tiny", UNet2DConditionModel(**unet), stable_vae())
    config = [
        *("--config-file", "distill_v2_eva_vitb16.yaml", "MODEL.ENCODER.WEIGHTS", "random"),
        *("MODEL.TEACHER.WEIGHTS", "random", "MODEL.DIFFUSION.NAME", folder, "MODEL.DIFFUSION.WEIGHTS", "random"),
        *("DATASETS.IMAGES", SHARED / "coco/val2017", "INPUT.MAX_CROPS", "9", "DATALOADER.NUM_WORKERS", "1"),
        *("SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "3", "SOLVER.WARMUP_ITERS", "1", "OUTPUT_DIR", tmp_path),
        *("MODEL.DIFFUSION.CACHE", tmp_path / "attention"),
    ]
    result = real_tool("train_declip.py", *config)
    assert result.returncode == 0, result.stderr[-2000:]
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    merged = {key: value for line in lines for key, value in line.items()}
    assert all(merged[f"loss_{term}"] > 0 for term in ("content", "context", "region_correlation"))
    assert 0 < merged["context/entropy_teacher"] <= 1 and 0 < merged["region_correlation/entropy_student"] <= 1
    photos = len(list((SHARED / "coco/val2017").glob("*.jpg")))
    assert len(list((tmp_path / "attention").glob("*/*.safetensors"))) == min(photos, 3)
