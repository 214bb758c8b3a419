"""Detectors on real photographs, by the command line."""

import json

import pytest

from tests.coco_real import coco_real_det


@pytest.fixture
def train(repository, run_here, tmp_path):
    def run(config, *options, flags=()):
        photos = f"('{coco_real_det()}',)"
        common = ("MODEL.DEVICE", "cpu", "MODEL.TEXT.CACHE", "", "MODEL.TEXT.PROMPTS", "name")
        common = (*common, "DATASETS.TRAIN", photos, "DATASETS.TEST", photos, "OUTPUT_DIR", tmp_path / "run")
        tool = repository / "tools/train_net.py"
        result = run_here(tool, "--config-file", config, *flags, *common, *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr[-2000:]
        return json.loads((tmp_path / "run/inference/results.json").read_text())[coco_real_det()]["bbox"]

    return run


@pytest.mark.slow
def test_the_published_recipe_takes_steps_and_evaluates(train, tmp_path):
    steps = ("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 3, "SOLVER.WARMUP_ITERS", 1, "SOLVER.CHECKPOINT_PERIOD", 0)
    found = train("fvit_ov_coco_vitb.yaml", "MODEL.ENCODER.WEIGHTS", "random", *steps)
    assert 0 <= found["AP50"] < 10  # all but random: only the path is real
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()]
    losses = {name: value for line in lines for name, value in line.items() if name.startswith("loss_")}
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_cls", "loss_box_reg"}
    assert all(value > 0 for value in losses.values())


@pytest.mark.slow
def test_a_small_detector_learns_photographs_by_heart(train, tmp_path):
    model = (
        *("INPUT.IMAGE_SIZE", 512, "INPUT.MIN_SCALE", 1.0, "INPUT.MAX_SCALE", 1.0, "INPUT.RANDOM_FLIP", "none"),
        *("MODEL.ENCODER.CACHE", tmp_path / "features", "MODEL.ROI_HEADS.FINEST_SIZE", 28.0),
        *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 128, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 128),
        *("TEST.ENSEMBLE.ALPHA", 0.0, "DATALOADER.NUM_WORKERS", 0, "SOLVER.AMP.ENABLED", "auto"),
    )
    train(
        "fvit_nano.yaml",
        *model,
        *("SOLVER.IMS_PER_BATCH", 6, "SOLVER.MAX_ITER", 600, "SOLVER.STEPS", "(550,)", "SOLVER.BASE_LR", 0.003),
        *("SOLVER.WARMUP_ITERS", 50, "SOLVER.WEIGHT_DECAY", 0.0, "MODEL.RPN.POST_NMS_TOPK", 300),
    )
    more = ("MODEL.RPN.PRE_NMS_TOPK", 1000, "MODEL.RPN.POST_NMS_TOPK", 1000)  # photographs are full of small things
    assert train("fvit_nano.yaml", *model, *more, flags=("--eval-only",))["AP50"] > 80
