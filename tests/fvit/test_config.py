import pytest

from d2host import CfgNode
from d2host.engine.errors import ConfigError
from fvit.config import add_fvit_config, get_fvit_cfg

PUBLISHED = {
    "fvit_ov_coco_vitb.yaml": (640, (0.1, 0.8, 45.0), (0.01, 0.4, 100), 0.6),
    "fvit_ov_coco_vitl.yaml": (896, (0.1, 0.8, 45.0), (0.01, 0.4, 100), 0.6),
    "fvit_ov_lvis_vitb.yaml": (1024, (0.1, 0.6, 90.0), (0.0001, 0.5, 300), 0.9),
    "fvit_ov_lvis_vitl.yaml": (896, (0.1, 0.4, 90.0), (0.0001, 0.5, 300), 0.9),
    "fvit_transfer_coco.yaml": (896, (0.2, 0.2, 120.0), (0.0001, 0.5, 300), 0.9),
    "fvit_transfer_objects365.yaml": (896, (0.3, 0.3, 120.0), (0.0001, 0.5, 300), 0.9),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_have_the_published_settings(name):
    cfg = get_fvit_cfg(name)
    ensemble, test = cfg.TEST.ENSEMBLE, cfg.TEST
    found = (
        cfg.INPUT.IMAGE_SIZE,
        (ensemble.ALPHA, ensemble.BETA, ensemble.VLM_TEMPERATURE),
        (test.SCORE_THRESH, test.NMS_THRESH, test.DETECTIONS_PER_IMAGE),
        cfg.MODEL.ROI_HEADS.BACKGROUND_WEIGHT,
    )
    assert found == PUBLISHED[name]
    transfer, lvis = "transfer" in name, "coco_vit" not in name
    assert cfg.MODEL.MASK_ON is cfg.MODEL.RPN.NORM is lvis and cfg.TEST.MASKS is not transfer
    assert (50 if transfer else 0) == ensemble.DETECTOR_TEMPERATURE


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["INPUT.MIN_SCALE", "3.0"], r"INPUT\.MAX_SCALE is 2\.0: it must be at least INPUT\.MIN_SCALE"),
        (["MODEL.PIXEL_STD", "(1, 0, 1)"], r"MODEL\.PIXEL_STD is .*: every value must be above 0"),
        (["SOLVER.STEPS", "(9, 5)"], r"SOLVER\.STEPS is \(9, 5\): iterations must rise"),
        (["MODEL.ENCODER.BLOCKS", "(3, 2, 7, 11)"], r"MODEL\.ENCODER\.BLOCKS is .*: early blocks come first"),
        (["MODEL.ENCODER.CACHE", "kept"], r"MODEL\.ENCODER\.CACHE keeps .* at random scales none comes twice"),
        (["SOLVER.WARMUP_ITERS", "9000"], r"SOLVER\.WARMUP_ITERS 9000 is not below"),
    ],
)
def test_values_that_do_not_go_together_are_refused(overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        get_fvit_cfg("", overrides)


def test_keys_are_added_to_a_hosts_tree():
    cfg = CfgNode({"MODEL": {"META_ARCHITECTURE": "GeneralizedRCNN"}, "SOLVER": {"MOMENTUM": 0.9}})
    add_fvit_config(cfg)
    assert cfg.MODEL.META_ARCHITECTURE == "FViT" and "MOMENTUM" not in cfg.SOLVER
