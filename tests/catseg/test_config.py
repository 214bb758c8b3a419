import re
from pathlib import Path

import pytest

from catseg.config import get_catseg_cfg
from d2host import CfgNode
from d2host.engine.config_file import config_folders, find_config
from d2host.engine.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
DECLARED = [REPOSITORY / "catseg/config.py", REPOSITORY / "d2host/engine/config.py"]


def leaves(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_config_of_the_project_loads():
    recipes = (file for folder in config_folders() for file in folder.glob("*.yaml"))
    files = sorted(file for file in recipes if not file.name.startswith(("distill", "nano")))
    assert len(files) >= 13
    for file in files:
        assert get_catseg_cfg(file).MODEL.META_ARCHITECTURE == "CATSeg"


def test_every_key_is_commented_or_named_plainly():
    lines = [line for path in DECLARED for line in path.read_text(encoding="utf-8").splitlines()]
    plain = {"BASE_LR", "WEIGHT_DECAY", "MAX_ITER", "ENABLED"}
    for name in {key.rsplit(".", 1)[-1] for key in leaves(get_catseg_cfg())} - plain:
        assert any(re.search(rf"\.{name} = .*#", line) for line in lines), f"{name} has no comment"


def test_the_dumped_config_names_nothing_that_does_not_run_and_loads_again(tmp_path):
    (tmp_path / "config.yaml").write_text(get_catseg_cfg("declip_catseg_nano.yaml").dump())
    assert "LR_SCHEDULER_NAME" not in (tmp_path / "config.yaml").read_text()
    assert get_catseg_cfg(tmp_path / "config.yaml") == get_catseg_cfg("declip_catseg_nano.yaml")


@pytest.mark.parametrize("config", ["declip_catseg_vitb.yaml", "catseg_clip_vitl.yaml"])
def test_published_hyper_parameters(config):
    cfg = get_catseg_cfg(config)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.CLIP_MULTIPLIER, cfg.SOLVER.WEIGHT_DECAY) == (2e-4, 0.01, 1e-4)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.WARMUP_ITERS) == (80_000, 4, 0)
    assert (cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE, cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE) == ("full_model", 0.01)
    assert (tuple(cfg.INPUT.CROP.SIZE), cfg.INPUT.COLOR_AUG_SSD) == ((384, 384), True)
    head = cfg.MODEL.SEM_SEG_HEAD
    assert (head.HIDDEN_DIM, head.NUM_LAYERS, head.NUM_HEADS, head.WINDOW_SIZE) == (128, 2, 4, 12)
    assert (tuple(head.POOLING_SIZE), head.PADDED_CLASSES) == ((2, 1), 256)


def test_a_bare_name_is_found_in_the_projects_folder_and_a_path_as_given(tmp_path):
    assert find_config("declip_catseg_vitb.yaml") == REPOSITORY / "projects/DeCLIP/configs/declip_catseg_vitb.yaml"
    own = tmp_path / "own.yaml"
    own.write_text("SEED: 7\n")
    assert get_catseg_cfg(own).SEED == 7


def test_overrides_win():
    assert get_catseg_cfg("declip_catseg_nano.yaml", ["SOLVER.MAX_ITER", "31"]).SOLVER.MAX_ITER == 31


@pytest.mark.parametrize(
    ("config", "opts", "sentence"),
    [
        ("nowhere.yaml", [], "nowhere.yaml does not exist: give a path, or one of .*declip_catseg_vitb.yaml"),
        ("", ["MODEL.ENCODER.NAMES", "x"], "Non-existent.*MODEL.ENCODER.NAMES.*catseg/config.py"),
        ("", ["SOLVER.MAX_ITER"], "'SOLVER.MAX_ITER' stands alone"),
        ("", ["SOLVER.MAX_ITER", "many"], "overrides on the command line cannot be used"),
        ("", ["SOLVER.MAX_ITER", "0"], "SOLVER.MAX_ITER is 0: it must be at least 1"),
        ("", ["MODEL.ENCODER.CONTEXT", "qv"], "CONTEXT 'qv' is unknown: choose one of .*'qk'"),
        ("", ["MODEL.ENCODER.FINETUNE", "half"], "FINETUNE 'half' is unknown: choose one of 'frozen'"),
        ("", ["MODEL.SEM_SEG_HEAD.NUM_HEADS", "3"], "HIDDEN_DIM 128 does not divide by NUM_HEADS 3"),
        ("", ["SEED", "1", "--resume"], "'--resume' stands among the KEY VALUE overrides"),
        ("", ["MODEL.SEM_SEG_HEAD.HIDDEN_DIM", "16"], "must be less than the 16 channels that decoder stage 0 takes"),
        (
            "",
            ["INPUT.RANDOM_FLIP", "vertical"],
            "RANDOM_FLIP 'vertical' is unknown: choose one of 'horizontal', 'none'",
        ),
        ("", ["INPUT.FORMAT", "BGR"], "INPUT.FORMAT 'BGR' is unknown: choose one of 'RGB'"),
        ("", ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"], "Non-existent.*SOLVER.LR_SCHEDULER_NAME"),
        ("", ["SOLVER.CLIP_MULTIPLIER", "-1.0"], "SOLVER.CLIP_MULTIPLIER is -1.0: it must be at least 0"),
        ("", ["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "value"], "CLIP_TYPE 'value' is unknown: choose one of 'full_model'"),
    ],
)
def test_bad_configurations_get_one_sentence(config, opts, sentence):
    with pytest.raises(ConfigError, match=sentence):
        get_catseg_cfg(config, opts)


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("MODEL: [unclosed\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml cannot be used"):
        get_catseg_cfg(broken)
