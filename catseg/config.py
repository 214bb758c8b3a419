"""Every configuration key of the project, with its default and what it means.

The usual keys (``MODEL``, ``INPUT``, ``SOLVER``, ``TEST``, ...) mean what users of Detectron2 expect. The tree holds
what is read and nothing else: the keys below, and those of every training, which :mod:`d2host.engine.config` explains.
"""

from collections.abc import Sequence
from pathlib import Path

from d2host import CfgNode
from d2host.engine.config import add_run_config, add_solver_config, check_solver
from d2host.engine.config_file import check_at_least, check_choices, read_config
from d2host.engine.errors import ConfigError
from d2host.engine.precision import Precision
from declip.models.contexts import AttentionScale, ContextType
from declip.models.finetuning import FinetunePolicy
from declip.models.templates import Templates


def add_catseg_config(cfg: CfgNode) -> None:
    """Declare the project's keys in a tree, empty or a host's, in place."""
    add_run_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "CATSeg"  # the registered model
    _add_encoder(cfg)
    _add_head(cfg)
    _add_input(cfg)
    _add_solver(cfg)
    _add_test(cfg)


def _add_encoder(cfg: CfgNode) -> None:
    encoder = cfg.MODEL.ENCODER = CfgNode()
    encoder.NAME = "EVA02-B-16"  # an open_clip model name, or nano
    encoder.WEIGHTS = ""  # a weight file, an open_clip pretrained tag, a plug-in's name, or random
    encoder.CONTEXT = ""  # q, k, v, qk, all, vanilla, maskclip; empty: what the weight file says, else qk
    encoder.ATTENTION_SCALE = ""  # sqrt_d, none; empty: what the weight file says, else sqrt_d
    encoder.FINETUNE = "attention"  # frozen, attention (queries, values and positions of both towers), full
    encoder.GRID = 24  # tokens per side of what the encoder sees: 384 px at patch 16, 336 px at patch 14
    encoder.GUIDANCE_BLOCKS = ()  # two block indices; empty: the ends of the first two thirds of the depth
    cfg.MODEL.TEXT = CfgNode()
    cfg.MODEL.TEXT.PROMPTS = "single"  # single ("A photo of a {} in the scene"), photo, name ("{}"), imagenet (80)


def _add_head(cfg: CfgNode) -> None:
    head = cfg.MODEL.setdefault("SEM_SEG_HEAD", CfgNode())
    head.NAME = "CATSegHead"  # the registered head
    head.IGNORE_VALUE = 255  # label of pixels without a class
    head.HIDDEN_DIM = 128  # channels of the cost embedding
    head.NUM_LAYERS = 2  # rounds of spatial and class aggregation
    head.NUM_HEADS = 4  # attention heads of both
    head.WINDOW_SIZE = 12  # tokens per side of the spatial windows
    head.POOLING_SIZE = (2, 1)  # pooling before class aggregation in training and in evaluation
    head.PADDED_CLASSES = 256  # class attention is padded to (and, above, cut to) this many classes
    head.AGGREGATE_ALL = False  # aggregate every class of larger vocabularies instead of the most similar ones
    head.GUIDANCE_PROJECTED_DIMS = (128, 128)  # channels of projected appearance and text guidance
    head.DECODER_DIMS = (64, 32)  # channels after each decoder stage
    head.DECODER_GUIDANCE_DIMS = (256, 128)  # channels of up-convolved encoder features, per decoder stage
    head.DECODER_GUIDANCE_PROJECTED_DIMS = (32, 16)  # channels they are projected to
    head.TOKEN_CHUNK = 6912  # tokens aggregated at once: small enough for the CPU's cache; raise it on GPUs
    head.RECOMPUTE = True  # recompute activations of the aggregation in the backward pass: less memory, more time


def _add_input(cfg: CfgNode) -> None:
    datasets = cfg.setdefault("DATASETS", CfgNode())
    datasets.TRAIN = ()  # registered names, of one class list
    datasets.TEST = ()  # registered names
    inputs = cfg.setdefault("INPUT", CfgNode())
    inputs.FORMAT = "RGB"  # of images: RGB alone
    inputs.MIN_SIZE_TRAIN = (384,)  # the shorter side becomes one of these
    inputs.MAX_SIZE_TRAIN = 2048  # limit of the longer side
    inputs.MIN_SIZE_TEST = 640  # the shorter side
    inputs.MAX_SIZE_TEST = 2560  # limit of the longer side
    inputs.RANDOM_FLIP = "horizontal"  # horizontal, none
    inputs.CROP = CfgNode()
    inputs.CROP.ENABLED = True  # off: the whole image
    inputs.CROP.TYPE = "absolute"  # of SIZE: absolute alone
    inputs.CROP.SIZE = (384, 384)  # height, width
    inputs.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0  # share of a crop that one class may fill; 1: any
    inputs.COLOR_AUG_SSD = True  # brightness, contrast, saturation and hue jitter


def _add_solver(cfg: CfgNode) -> None:
    add_solver_config(
        cfg,
        BASE_LR=2e-4,
        MAX_ITER=80_000,
        WARMUP_FACTOR=1.0,
        IMS_PER_BATCH=4,
        CLIP_GRADIENTS={"ENABLED": True, "CLIP_VALUE": 0.01},
    )
    cfg.SOLVER.CLIP_MULTIPLIER = 0.01  # factor on the learning rate of the encoder
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0  # of normalisation layers
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0  # of embedding tables


def _add_test(cfg: CfgNode) -> None:
    test = cfg.TEST
    test.EVAL_PERIOD = 5000  # iterations between evaluations; 0: only at the end
    test.EXPECTED_RESULTS = []  # of the first test set: [task, metric, value, tolerance] each; others end with status 1
    test.AMP = CfgNode()
    test.AMP.ENABLED = False  # mixed precision in evaluation
    test.AMP.DTYPE = "bf16"
    test.SAVE_PREDICTIONS = False  # write every prediction as a label image
    test.VISUALIZE = 0  # pictures per dataset: image, prediction and ground truth side by side
    test.SLIDING_WINDOW = CfgNode()
    test.SLIDING_WINDOW.ENABLED = True  # off: the whole image, once
    test.SLIDING_WINDOW.SIZE = 640  # side of the square that test images are resized to
    test.SLIDING_WINDOW.KERNEL = 384  # side of a window
    test.SLIDING_WINDOW.OVERLAP = 0.333  # of neighbouring windows
    test.SLIDING_WINDOW.STITCH = False  # windows meet in the encoder's last block, which sees the whole image


def get_catseg_cfg(config_file: str | Path = "", opts: Sequence[str] = ()) -> CfgNode:
    """The configuration of a file with overrides, checked.

    Args:
        config_file: a path, or the bare name of a file in ``projects/DeCLIP/configs``; empty: the defaults.
        opts: ``KEY VALUE`` pairs.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a value impossible.
    """
    cfg = read_config(add_catseg_config, config_file, opts, keys_in="catseg/config.py or d2host/engine/config.py")
    check_config(cfg)
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Refuse values that can only fail later.

    Raises:
        ConfigError: naming the key and what it may be.
    """
    check_solver(cfg)
    choices = {
        "MODEL.ENCODER.CONTEXT": (cfg.MODEL.ENCODER.CONTEXT, ["", *(kind.value for kind in ContextType)]),
        "MODEL.ENCODER.ATTENTION_SCALE": (
            cfg.MODEL.ENCODER.ATTENTION_SCALE,
            ["", *(kind.value for kind in AttentionScale)],
        ),
        "MODEL.ENCODER.FINETUNE": (cfg.MODEL.ENCODER.FINETUNE, [policy.value for policy in FinetunePolicy]),
        "MODEL.TEXT.PROMPTS": (cfg.MODEL.TEXT.PROMPTS, [prompts.value for prompts in Templates]),
        "TEST.AMP.DTYPE": (cfg.TEST.AMP.DTYPE, [precision.value for precision in Precision]),
        "INPUT.FORMAT": (cfg.INPUT.FORMAT, ["RGB"]),
        "INPUT.RANDOM_FLIP": (cfg.INPUT.RANDOM_FLIP, ["horizontal", "none"]),
        "INPUT.CROP.TYPE": (cfg.INPUT.CROP.TYPE, ["absolute"]),
    }
    check_choices(choices)
    positive = {
        "MODEL.ENCODER.GRID": cfg.MODEL.ENCODER.GRID,
        "MODEL.SEM_SEG_HEAD.WINDOW_SIZE": cfg.MODEL.SEM_SEG_HEAD.WINDOW_SIZE,
        "MODEL.SEM_SEG_HEAD.TOKEN_CHUNK": cfg.MODEL.SEM_SEG_HEAD.TOKEN_CHUNK,
    }
    check_at_least(1, positive)
    check_at_least(0, {"SOLVER.CLIP_MULTIPLIER": cfg.SOLVER.CLIP_MULTIPLIER, "TEST.VISUALIZE": cfg.TEST.VISUALIZE})
    if cfg.MODEL.SEM_SEG_HEAD.HIDDEN_DIM % cfg.MODEL.SEM_SEG_HEAD.NUM_HEADS:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.HIDDEN_DIM {cfg.MODEL.SEM_SEG_HEAD.HIDDEN_DIM} does not divide by NUM_HEADS "
            f"{cfg.MODEL.SEM_SEG_HEAD.NUM_HEADS}"
        )
    _check_decoder(cfg.MODEL.SEM_SEG_HEAD)


def _check_decoder(head: CfgNode) -> None:
    """Each stage's guidance replaces some of its input channels, so there must be fewer of them."""
    inputs = (head.HIDDEN_DIM, head.DECODER_DIMS[0])
    for stage, (channels, guidance) in enumerate(zip(inputs, head.DECODER_GUIDANCE_PROJECTED_DIMS, strict=True)):
        if guidance >= channels:
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_PROJECTED_DIMS[{stage}] is {guidance}: it must be less than the "
                f"{channels} channels that decoder stage {stage} takes (HIDDEN_DIM, then DECODER_DIMS[0])"
            )
