from functools import reduce
from operator import getitem

import pytest

from d2host.engine.config_file import decode
from d2host.engine.errors import ConfigError
from declip.distill import build_distillation, get_distillation_cfg

NANO = "distill_nano.yaml"
IMPOSSIBLE = {
    "no term": (["MODEL.DISTILL.TERMS", "[]"], r"MODEL.DISTILL.TERMS is \[\]: it must be a list of at least 1"),
    "unknown term": (["MODEL.DISTILL.TERMS", "['style']"], r"MODEL.DISTILL.TERMS is \['style'\]: .*'content'"),
    "a term twice": (
        ["MODEL.DISTILL.TERMS", "['content', 'content']"],
        "MODEL.DISTILL.TERMS is .*: it must be a list of at least 1 different values",
    ),
    "weight of content": (
        ["MODEL.DISTILL.CONTENT.WEIGHT", "0.0"],
        "CONTENT.WEIGHT is 0.0: it must be a finite number, above 0",
    ),
    "weight of context": (
        ["MODEL.DISTILL.CONTEXT.WEIGHT", "-1."],
        "CONTEXT.WEIGHT is -1.0: it must be a finite number, above 0",
    ),
    "no context feature": (
        ["MODEL.ENCODER.CONTEXT", "vanilla"],
        "MODEL.DISTILL.CONTEXT.FEATURE 'context' needs a context feature, which MODEL.ENCODER.CONTEXT 'vanilla'",
    ),
    "unknown feature": (
        ["MODEL.DISTILL.CONTEXT.FEATURE", "tokens"],
        "CONTEXT.FEATURE is 'tokens': it must be 'content' or 'context'",
    ),
    "unknown distance": (["MODEL.DISTILL.CONTEXT.DISTANCE", "l1"], "MODEL.DISTILL.CONTEXT.DISTANCE is 'l1'"),
    "no rows": (["MODEL.DISTILL.CONTEXT.ROWS", "0"], "MODEL.DISTILL.CONTEXT.ROWS is 0"),
    "nothing of the student": (["MODEL.DISTILL.ENSEMBLE_ALPHA", "0.0"], "MODEL.DISTILL.ENSEMBLE_ALPHA is 0.0"),
    "proposals nobody learns from": (
        ["DATASETS.PROPOSALS", "boxes.npz", "MODEL.DISTILL.TERMS", "['context']"],
        "DATASETS.PROPOSALS is 'boxes.npz', but only the terms 'content' and 'region_correlation' learn from them",
    ),
    "temperature": (
        ["MODEL.DISTILL.CONTEXT.TEMPERATURE", "0.0"],
        "MODEL.DISTILL.CONTEXT.TEMPERATURE is 0.0: it must be a finite number, at least 0.001 and at most 100",
    ),
    "attention by l2": (
        ["MODEL.DISTILL.CONTEXT.NORMALIZED", "attention"],
        "NORMALIZED is 'attention', which only the distance 'kl' normalizes: set MODEL.DISTILL.CONTEXT.DISTANCE kl",
    ),
    "no such timestep": (["MODEL.DIFFUSION.TIMESTEP", "50"], "TIMESTEP 50 is not below MODEL.DIFFUSION.STEPS 50"),
    "nothing learns from affinities": (
        ["MODEL.DIFFUSION.NAME", "nano-diffusion", "MODEL.DISTILL.TERMS", "['content']"],
        "MODEL.DIFFUSION.NAME is given, but only the term 'context' learns from affinities",
    ),
    "no regions": (["TEST.REGIONS", "", "TEST.CAPTIONS", ""], "TEST.EVAL_PERIOD is 250, but TEST.REGIONS is empty"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_can_only_fail_later_is_refused_with_its_key(case):
    overrides, sentence = IMPOSSIBLE[case]
    with pytest.raises(ConfigError, match=sentence):
        get_distillation_cfg(NANO, overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["MODEL.DISTILL.TERMS", "['content']", "MODEL.ENCODER.CONTEXT", "vanilla"],
        ["MODEL.DISTILL.CONTEXT.FEATURE", "content", "MODEL.ENCODER.CONTEXT", "maskclip"],
        ["MODEL.DISTILL.TERMS", "['context']"],
        ["TEST.EVAL_PERIOD", "0", "TEST.REGIONS", ""],
    ],
)
def test_what_can_work_is_accepted(overrides):
    cfg = get_distillation_cfg(NANO, overrides)
    for name, value in zip(overrides[::2], overrides[1::2], strict=True):
        assert reduce(getitem, name.split("."), cfg) == decode(value)


def test_by_default_nothing_is_validated_and_every_weight_is_that_of_the_paper():
    cfg = get_distillation_cfg()
    assert (cfg.TEST.EVAL_PERIOD, cfg.TEST.REGIONS) == (0, "")
    assert list(cfg.MODEL.DISTILL.TERMS) == ["content", "context"]
    assert (cfg.MODEL.DISTILL.CONTENT.WEIGHT, cfg.MODEL.DISTILL.CONTEXT.WEIGHT) == (1.0, 0.25)


def test_a_warm_up_that_outlasts_the_published_run_is_refused():
    with pytest.raises(ConfigError, match=r"SOLVER\.WARMUP_ITERS"):
        get_distillation_cfg("distill_eva_vitb16.yaml", ["SOLVER.MAX_ITER", "500"])


def test_random_student_weights_have_to_be_asked_for():
    with pytest.raises(ConfigError, match=r"MODEL\.ENCODER\.WEIGHTS is empty"):
        build_distillation(get_distillation_cfg("distill_nano.yaml", ["MODEL.ENCODER.WEIGHTS", ""]))
