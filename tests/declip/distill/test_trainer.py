import pytest

from declip import build_encoder
from declip.distill import DistillationTrainer, build_distillation, get_distillation_cfg
from declip.evaluation.class_token import evaluate_class_token
from declip.evaluation.regions import classify_regions
from declip.weights.files import read_metadata


@pytest.mark.parametrize("alpha", ["1.0", "0.6"])
def test_what_is_validated_is_what_is_saved(alpha, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    options = ("DATASETS.IMAGES", "nano_val", "TEST.MAX_IMAGES", "8", "OUTPUT_DIR", str(tmp_path / "run"))
    options += ("MODEL.DEVICE", "cpu", "MODEL.DISTILL.ENSEMBLE_ALPHA", alpha)
    cfg = get_distillation_cfg("distill_nano.yaml", options)
    trainer = DistillationTrainer.from_config(cfg, build_distillation(cfg))
    trainer.distillation.student.load_state_dict(build_encoder("nano", "nano-declip").state_dict())  # as if trained
    trainer.distillation.train()
    found = trainer.evaluate()
    validated, images = found["regions"], {"max_images": 8}
    assert trainer.distillation.student.training
    path = trainer.export(tmp_path / "declip.safetensors")
    written = build_encoder("nano", str(path)).eval()
    side, regions = cfg.INPUT.STUDENT_SIZE, trainer.regions
    assert validated == classify_regions(written, regions, side, max_images=8).summary()
    assert found["class_token"] == evaluate_class_token(written, trainer.whole, **images)
    original = build_encoder("nano", "nano-clip").eval()
    assert found["class_token_original"] == evaluate_class_token(original, trainer.whole, **images)
    if alpha != "1.0":
        student = trainer.distillation.student.eval()
        assert validated != classify_regions(student, regions, side, max_images=8).summary()
    facts = read_metadata(path)
    assert (facts["terms"], facts["teacher"], facts["ensemble_alpha"]) == (
        ["content", "context"],
        "nano-vfm",
        float(alpha),
    )


@pytest.mark.parametrize("missing", ["REGIONS", "CAPTIONS"])
def test_either_of_what_is_validated_may_be_missing(missing, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    options = ("DATASETS.IMAGES", "nano_val", "TEST.MAX_IMAGES", "4", "OUTPUT_DIR", str(tmp_path / "run"))
    cfg = get_distillation_cfg("distill_nano.yaml", [*options, "MODEL.DEVICE", "cpu", f"TEST.{missing}", ""])
    trainer = DistillationTrainer.from_config(cfg, build_distillation(cfg))
    whole = {"class_token", "class_token_original"}
    assert set(trainer.evaluate()) == (whole if missing == "REGIONS" else {"regions"})
