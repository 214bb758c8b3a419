"""Which precision a processor is given, by what it has."""

import pytest

from d2host import CfgNode
from d2host.engine.precision import Precision, amp_precision, choose_precision, fast_precisions, settle_precision

CHOICES = {
    "AMX": ("cpu", {"avx2", "avx512_bf16", "amx_tile", "amx_bf16"}, "bf16"),
    "AMX as an earlier torch says it": ("cpu", {"amx_tile"}, "bf16"),
    "AVX-512 with bf16": ("cpu", {"avx2", "avx512_f", "avx512_bf16"}, "bf16"),
    "AVX-512 without": ("cpu", {"avx2", "avx512_f"}, "fp32"),
    "AVX2": ("cpu", {"avx2"}, "fp32"),
    "a GPU": ("cuda", {"bf16"}, "bf16"),
    "the second GPU": ("cuda:1", {"bf16"}, "bf16"),
    "an older GPU": ("cuda", set(), "fp16"),
    "something else": ("mps", None, "fp32"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_auto_is_the_best_that_the_processor_has_instructions_for(case, caplog):
    device, features, expected = CHOICES[case]
    caplog.set_level("INFO")
    assert choose_precision("auto", device, features).value == expected
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert f"Precision {expected}" in caplog.text


def test_what_is_slow_is_done_with_one_warning_that_says_why(caplog):
    assert choose_precision("bf16", "cpu", {"avx2"}) is Precision.BF16
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (
        "(cpu) has no instructions for matrix products in bf16, which therefore take longer than in fp32" in caplog.text
    )


@pytest.mark.parametrize(
    ("wanted", "device", "features"), [("fp32", "cpu", ()), ("bf16", "cpu", {"avx512_bf16"}), ("fp16", "cuda", ())]
)
def test_what_is_fast_is_done_silently(wanted, device, features, caplog):
    assert choose_precision(wanted, device, features).value == wanted
    assert not caplog.records


def test_this_machine_is_asked():
    assert choose_precision("auto", "cpu") is fast_precisions("cpu")[0]


def configuration(enabled, dtype="bf16"):
    groups = {name: {"AMP": {"ENABLED": enabled, "DTYPE": dtype}} for name in ("SOLVER", "TEST")}
    return CfgNode({"MODEL": {"DEVICE": "cpu"}, **groups})


@pytest.mark.parametrize(
    ("enabled", "dtype", "expected"), [(True, "bf16", "bf16"), (True, "fp32", "fp32"), (False, "bf16", "fp32")]
)
def test_a_config_that_says_what_it_wants_gets_it(enabled, dtype, expected):
    cfg = configuration(enabled, dtype)
    assert amp_precision(cfg.SOLVER.AMP, "cpu").value == expected
    settle_precision(cfg)
    assert [amp_precision(group.AMP, "cpu").value for group in (cfg.SOLVER, cfg.TEST)] == [expected, expected]


def test_auto_in_a_config_becomes_what_it_means():
    cfg = configuration("auto")
    meant = amp_precision(cfg.SOLVER.AMP, "cpu")
    settle_precision(cfg)
    for amp in (cfg.SOLVER.AMP, cfg.TEST.AMP):
        assert amp.ENABLED is (meant is not Precision.FP32)
        assert amp_precision(amp, "cpu") is meant
