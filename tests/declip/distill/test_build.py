import numpy as np
import pytest
import torch
from PIL import Image

from d2host.engine.errors import CheckpointError, ConfigError, DataError
from declip.data.detection.proposals import write_proposals
from declip.distill import build_distillation, check_inputs, get_distillation_cfg
from declip.distill.build import build_dataset
from declip.distill.student import trainable_names
from declip.losses import Direction, KLDistance, StudentFeature, l2_distance
from declip.teachers.completed import Completed, Order
from declip.teachers.diffusion import DiffusionOptions
from tests.tiny_diffusion import save_pixel_diffusion

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
        (("MODEL.DISTILL.TERMS", "['region_correlation']"), {"clip", "foundation"}, {"content"}),
    ],
    ids=["both", "content", "context", "context on content", "regions"],
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


def test_the_config_says_how_rows_are_compared():
    assert built().terms["context"].distance is l2_distance
    kl = ("MODEL.DISTILL.CONTEXT.DISTANCE", "kl")
    assert built(*kl).terms["context"].distance == KLDistance(0.1, None, Direction.TEACHER)
    options = ("MODEL.DISTILL.CONTEXT.NORMALIZED", "attention", "MODEL.DISTILL.CONTEXT.TEMPERATURE", "0.3")
    context = built(*kl, *options, "MODEL.DISTILL.CONTEXT.DIRECTION", "student").terms["context"]
    assert context.distance == KLDistance(0.3, 1.0, Direction.STUDENT) and context.logits
    group = "MODEL.DISTILL.REGION_CORRELATION"
    options = (f"{group}.POINTS", "3", f"{group}.TEMPERATURE", "0.5", f"{group}.DIRECTION", "student")
    regions = built("MODEL.DISTILL.TERMS", "['region_correlation']", *options).terms["region_correlation"]
    assert (regions.points, regions.distance) == (3, KLDistance(0.5, direction=Direction.STUDENT))


def completing(folder, *options):
    name = str(save_pixel_diffusion(folder))
    return ("MODEL.DIFFUSION.NAME", name, "MODEL.DIFFUSION.CELLS", "8", "DATASETS.IMAGES", "nano_val", *options)


def test_a_diffusion_model_completes_the_foundation_models_affinities(tmp_path):
    options = ("MODEL.DIFFUSION.ORDER", "attention", "MODEL.DIFFUSION.CACHE", str(tmp_path / "cache"))
    cfg = get_distillation_cfg("distill_v2_nano.yaml", [*CPU, *completing(tmp_path / "model", *options), "SEED", "3"])
    model = build_distillation(cfg)
    teacher = model.teachers["foundation"]
    assert isinstance(teacher, Completed) and teacher.order is Order.ATTENTION
    assert teacher.diffusion.options == DiffusionOptions(layers=tuple(cfg.MODEL.DIFFUSION.LAYERS), cells=8, seed=3)
    dataset = build_dataset(cfg, model)
    sample = dataset[0, 0]
    assert torch.equal(sample["diffusion"], sample["student"])  # eight pixels per token, both
    losses = model([sample])
    assert {"loss_content", "loss_context", "loss_region_correlation"} < losses.keys()
    assert len(list((tmp_path / "cache").glob("*/*.safetensors"))) == 1
    assert not any(name.startswith("teachers") for name in model.state_dict())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("MODEL.DIFFUSION.CELLS", "1"), "takes latents whose sides are multiples of 2"),
        (("MODEL.DIFFUSION.LAYERS", "['up_blocks.7']"), "has no self-attention in 'up_blocks.7'"),
        (("MODEL.DIFFUSION.NAME", "gone"), "diffusion model 'gone' is unknown"),
    ],
)
def test_diffusion_models_that_cannot_serve_are_refused_before_training(options, sentence, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        built("MODEL.DISTILL.CONTEXT.DISTANCE", "kl", *completing(tmp_path, *options))


def test_a_cache_of_other_settings_is_refused(tmp_path):
    cache = ("MODEL.DIFFUSION.CACHE", str(tmp_path / "cache"))
    built(*completing(tmp_path / "model", *cache))
    with pytest.raises(ConfigError, match=r"was filled with other settings \(.*timestep \d+, not \d+\)"):
        built(*completing(tmp_path / "model", *cache, "MODEL.DIFFUSION.TIMESTEP", "7"))


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
        (("DATASETS.IMAGES", "gone.tar"), True, DataError, r"there is no shard gone\.tar: name those that exist"),
        (
            ("DATASETS.PROPOSALS", "gone.npz"),
            True,
            DataError,
            r"DATASETS.PROPOSALS is 'gone\.npz', which does not exist",
        ),
        (("TEST.REGIONS", "gone"), True, DataError, "TEST.REGIONS is 'gone', which does not exist"),
        (("TEST.REGIONS", "*.json"), True, DataError, r"TEST.REGIONS is '\*.json', which does not exist"),
        (("MODEL.WEIGHTS", "gone.pth"), False, CheckpointError, r"checkpoint gone\.pth does not exist"),
        (("TEST.CAPTIONS", "gone"), True, DataError, "TEST.CAPTIONS is 'gone', which does not exist"),
        (("TEST.CLASSES", "gone"), True, DataError, "TEST.CLASSES is 'gone', which is no folder"),
        (
            ("TEST.REGIONS", "", "TEST.CAPTIONS", "", "TEST.EVAL_PERIOD", "0"),
            False,
            ConfigError,
            "TEST.REGIONS is empty",
        ),
    ],
)
def test_images_and_regions_that_are_not_there_are_refused_before_anything_is_built(options, training, kind, sentence):
    with pytest.raises(kind, match=sentence):
        check_inputs(get_distillation_cfg("distill_nano.yaml", options), training)


def test_sources_that_are_there_pass(tmp_path):
    for name in ("regions.json", "0.tar", "1.tar"):
        (tmp_path / name).write_text("{}")
    for images in (str(tmp_path), "nano_val", f"{tmp_path}/*.tar", f"{tmp_path}/{{0..1}}.tar"):
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
