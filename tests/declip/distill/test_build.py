import numpy as np
import pytest
import torch
from PIL import Image

from d2host.engine.errors import CheckpointError, ConfigError, DataError
from declip.data.detection.proposals import write_proposals
from declip.distill import build_distillation, check_inputs, get_distillation_cfg
from declip.distill.build import build_dataset
from declip.distill.student import trainable_names
from declip.losses import StudentFeature

CPU = ("MODEL.DEVICE", "cpu")


def built(*options):
    return build_distillation(get_distillation_cfg("distill_nano.yaml", [*CPU, *options]))


@pytest.mark.parametrize(
    ("options", "teachers", "features"),
    [
        ((), {"clip", "foundation"}, {"content", "context"}),
        (("MODEL.DISTILL.TERMS", "['content']"), {"clip"}, {"content"}),
        (("MODEL.DISTILL.TERMS", "['context']"), {"foundation"}, {"context"}),
        (("MODEL.DISTILL.CONTEXT.FEATURE", "content"), {"clip", "foundation"}, {"content"}),
    ],
    ids=["both", "content", "context", "context on content"],
)
def test_only_teachers_that_a_term_needs_are_built_and_only_what_terms_read_trains(options, teachers, features):
    model = built(*options)
    assert set(model.teachers) == teachers
    training = {name for name, parameter in model.student.named_parameters() if parameter.requires_grad}
    assert training == trainable_names(model.student, {StudentFeature(feature) for feature in features})


def test_the_config_says_weights_distance_and_rows():
    model = built("MODEL.DISTILL.CONTENT.WEIGHT", "2.0", "MODEL.DISTILL.CONTEXT.ROWS", "7")
    assert model.weights == {"content": 2.0, "context": 0.03}
    assert model.terms["context"].rows_at_once == 7


def test_a_copy_to_interpolate_with_is_made_only_where_it_is_wanted():
    assert built().original is None
    half = ("MODEL.DISTILL.ENSEMBLE_ALPHA", "0.5", "SOLVER.AMP.ENABLED", "True")
    model = built(*half)
    assert model.original is model.teachers["clip"].encoder  # one copy for both, exact
    assert {parameter.dtype for parameter in model.original.parameters()} == {torch.float32}
    assert built(*half, "MODEL.DISTILL.TERMS", "['context']").original is not None


def test_random_teachers_are_those_of_the_seed():
    first, again, other = (
        built("MODEL.TEACHER.WEIGHTS", "random", "SEED", seed).teachers["foundation"].model.blocks[0].attn.qkv.weight
        for seed in ("3", "3", "4")
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_more_blocks_than_there_are_is_refused_with_its_key():
    with pytest.raises(ConfigError, match=r"MODEL.DISTILL.LAST_N_BLOCKS is impossible: .* 'nano' has 6 blocks"):
        built("MODEL.DISTILL.LAST_N_BLOCKS", "9")


@pytest.mark.parametrize("key", ["INPUT.STUDENT_SIZE", "INPUT.CROP_SIZE"])
def test_sides_that_the_patch_does_not_divide_are_refused_with_their_key(key):
    options = [*CPU, key, "65", "DATASETS.IMAGES", "nano_val"]
    cfg = get_distillation_cfg("distill_nano.yaml", options)
    with pytest.raises(ConfigError, match=f"{key}.* is impossible: .* 65 is no multiple"):
        build_dataset(cfg, build_distillation(cfg))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("INPUT.STUDENT_SIZE", "65"), "student 65 is no multiple of the encoder's patch of 8 pixels"),
        (("INPUT.STUDENT_SIZE", "4"), "student 4 is no multiple"),
        (("INPUT.CROP_SIZE", "63"), "crop 63 is no multiple"),
        (("MODEL.DISTILL.LAST_N_BLOCKS", "9"), "LAST_N_BLOCKS is impossible"),
    ],
)
def test_what_the_students_shape_forbids_is_refused_before_teachers_are_made(options, sentence):
    with pytest.raises(ConfigError, match=sentence):  # the teacher is unknown, too, which would be said later
        built(*options, "MODEL.TEACHER.NAME", "gone")


@pytest.mark.parametrize(
    ("options", "training", "kind", "sentence"),
    [
        (("DATASETS.IMAGES", ""), True, ConfigError, "DATASETS.IMAGES is empty"),
        (("DATASETS.IMAGES", "gone"), True, DataError, "DATASETS.IMAGES is 'gone', which does not exist"),
        (("DATASETS.IMAGES", "gone.json"), True, DataError, "DATASETS.IMAGES is 'gone.json', which does not exist"),
        (("DATASETS.IMAGES", "gone.tar"), True, DataError, "DATASETS.IMAGES is 'gone.tar', which does not exist"),
        (
            ("DATASETS.PROPOSALS", "gone.npz"),
            True,
            DataError,
            r"DATASETS.PROPOSALS is 'gone\.npz', which does not exist",
        ),
        (("TEST.REGIONS", "gone"), True, DataError, "TEST.REGIONS is 'gone', which does not exist"),
        (("TEST.REGIONS", "*.json"), True, DataError, r"TEST.REGIONS is '\*.json', which does not exist"),
        (("MODEL.WEIGHTS", "gone.pth"), False, CheckpointError, r"checkpoint gone\.pth does not exist"),
        (("TEST.REGIONS", "", "TEST.EVAL_PERIOD", "0"), False, ConfigError, "TEST.REGIONS is empty"),
    ],
)
def test_images_and_regions_that_are_not_there_are_refused_before_anything_is_built(options, training, kind, sentence):
    with pytest.raises(kind, match=sentence):
        check_inputs(get_distillation_cfg("distill_nano.yaml", options), training)


def test_sources_that_are_there_pass(tmp_path):
    (tmp_path / "regions.json").write_text("{}")
    for images in (str(tmp_path), "nano_val", f"{tmp_path}/*.tar", f"{tmp_path}/{{0..9}}.tar"):
        options = ["DATASETS.IMAGES", images, "TEST.REGIONS", str(tmp_path / "regions.json")]
        check_inputs(get_distillation_cfg("distill_nano.yaml", options), training=True)


def test_crops_are_those_of_the_proposals_and_every_image_has_to_have_some(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (128, 64)).save(tmp_path / name)
    boxes = np.array([[0, 0, 64, 32], [32, 16, 128, 64]])
    write_proposals(tmp_path / "boxes.npz", [(name, (64, 128), boxes) for name in ("a.png", "b.png")])
    options = [*CPU, "DATASETS.IMAGES", str(tmp_path), "DATASETS.PROPOSALS", str(tmp_path / "boxes.npz")]
    cfg = get_distillation_cfg("distill_nano.yaml", [*options, "MODEL.DISTILL.TERMS", "['content']"])
    model = build_distillation(cfg)
    sample = build_dataset(cfg, model)[0, 1]
    scale = cfg.INPUT.STUDENT_SIZE / 128
    assert np.allclose(sample["boxes"], boxes * scale) and len(sample["crops"]) == 2
    Image.new("RGB", (128, 64)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"has no proposals for 1 images, among them .*c\.png"):
        build_dataset(cfg, model)
