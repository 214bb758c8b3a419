from pathlib import Path

import pytest

from catseg.config import check_config, get_catseg_cfg
from d2host.engine.config_file import config_folders, find_config
from d2host.engine.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_config_of_a_segmenter_loads():
    recipes = (file for folder in config_folders() for file in folder.glob("*.yaml"))
    files = sorted(file for file in recipes if not file.name.startswith(("distill", "nano", "fvit")))
    assert len(files) >= 13
    for file in files:
        assert get_catseg_cfg(file).MODEL.META_ARCHITECTURE == "CATSeg"


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


HEAD, WINDOW = "MODEL.SEM_SEG_HEAD", "TEST.SLIDING_WINDOW"


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ([f"{HEAD}.POOLING_SIZE", "(25, 1)"], "POOLING_SIZE is .*at most the 24 tokens per side of MODEL.ENCODER.GRID"),
        ([f"{HEAD}.DECODER_DIMS", "(64, 50)"], "DECODER_DIMS is .*50 channels .* choose a multiple of 16"),
        ([f"{HEAD}.DECODER_DIMS", "(16, 8)"], r"PROJECTED_DIMS\[1\] is 16: it must be less than the 16 channels"),
        ([f"{WINDOW}.KERNEL", "641"], "KERNEL is 641: it must be at most TEST.SLIDING_WINDOW.SIZE 640"),
        ([f"{WINDOW}.OVERLAP", "0.999"], "OVERLAP 0.999 makes more than 1024 windows"),
        ([f"{WINDOW}.KERNEL", "8"], "KERNEL 8 with OVERLAP 0.333 makes more than 1024 windows"),
        (["INPUT.MAX_SIZE_TEST", "639"], "INPUT.MAX_SIZE_TEST is 639: it must be at least the 640 pixels"),
        (["INPUT.MIN_SIZE_TRAIN", "(384, 4096)"], "INPUT.MAX_SIZE_TRAIN is 2048: it must be at least the 4096 pixels"),
    ],
)
def test_what_keys_ask_of_each_other(opts, sentence):
    with pytest.raises(ConfigError, match=sentence):
        get_catseg_cfg("", opts)


def test_windows_that_are_not_used_may_be_anything_a_window_may():
    cfg = get_catseg_cfg("", [f"{WINDOW}.KERNEL", "641", f"{WINDOW}.ENABLED", "False"])
    assert cfg.TEST.SLIDING_WINDOW.KERNEL == 641


def test_a_tree_filled_by_hand_is_checked_too():
    cfg = get_catseg_cfg()
    cfg.SOLVER.BASE_LR = float("nan")
    with pytest.raises(ConfigError, match=r"SOLVER.BASE_LR is nan: it must be a finite number, above 0"):
        check_config(cfg)
    cfg = get_catseg_cfg()
    del cfg.SOLVER["EPS"]
    with pytest.raises(ConfigError, match=r"SOLVER.EPS is missing: it must be a finite number, above 0"):
        check_config(cfg)
    cfg.SOLVER = None
    with pytest.raises(ConfigError, match=r"SOLVER.BASE_LR is missing"):
        check_config(cfg)


@pytest.mark.parametrize(
    ("config", "opts", "sentence"),
    [
        ("nowhere.yaml", [], "nowhere.yaml does not exist: give a path, or one of .*declip_catseg_vitb.yaml"),
        (
            "",
            ["MODEL.ENCODER.NAMES", "x"],
            "MODEL.ENCODER.NAMES is not a key of this program: did you mean MODEL.ENCODER.NAME?",
        ),
        ("", ["SOLVER.MAX_ITER"], "'SOLVER.MAX_ITER' stands alone"),
        ("", ["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER is 'many': it must be an integer from 1 to"),
        ("", ["SOLVER.MAX_ITER", "0"], "SOLVER.MAX_ITER is 0: it must be an integer from 1 to"),
        ("", ["MODEL.ENCODER.CONTEXT", "qv"], "CONTEXT is 'qv': it must be .*'qk'"),
        ("", ["MODEL.ENCODER.FINETUNE", "half"], "FINETUNE is 'half': it must be 'frozen', 'attention' or 'full'"),
        ("", ["MODEL.SEM_SEG_HEAD.NUM_HEADS", "3"], "HIDDEN_DIM 128 does not divide by NUM_HEADS 3"),
        ("", ["SEED", "1", "--resume"], "'--resume' stands among the KEY VALUE overrides"),
        ("", ["MODEL.SEM_SEG_HEAD.HIDDEN_DIM", "16"], "must be less than the 16 channels that decoder stage 0 takes"),
        (
            "",
            ["INPUT.RANDOM_FLIP", "vertical"],
            "RANDOM_FLIP is 'vertical': it must be 'horizontal' or 'none'",
        ),
        ("", ["INPUT.FORMAT", "BGR"], "INPUT.FORMAT is 'BGR': it must be 'RGB'"),
        ("", ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"], "SOLVER.LR_SCHEDULER_NAME is not a key of this program"),
        (
            "",
            ["SOLVER.CLIP_MULTIPLIER", "-1.0"],
            "SOLVER.CLIP_MULTIPLIER is -1.0: it must be a finite number, at least 0",
        ),
        ("", ["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "value"], "CLIP_TYPE is 'value': it must be 'full_model'"),
    ],
)
def test_bad_configurations_get_one_sentence(config, opts, sentence):
    with pytest.raises(ConfigError, match=sentence):
        get_catseg_cfg(config, opts)


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("MODEL: [unclosed\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml is no YAML that can be used"):
        get_catseg_cfg(broken)
