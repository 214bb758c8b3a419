"""Every configuration key of the project, with its default and what it means.

The tree extends the host's (``MODEL``, ``INPUT``, ``SOLVER``, ``TEST``, ...), so the usual keys mean what users of
Detectron2 expect; those that the project adds or gives another default stand below.
"""

from collections.abc import Sequence
from pathlib import Path

from d2host import CfgNode, get_cfg
from d2host.engine.config_file import check_at_least, check_choices, check_solver, merge_config
from d2host.engine.errors import ConfigError
from d2host.engine.precision import Precision
from declip.models.contexts import AttentionScale, ContextType
from declip.models.finetuning import FinetunePolicy
from declip.models.templates import Templates


def add_catseg_config(cfg: CfgNode) -> None:
    """Add the project's keys to a host configuration, in place."""
    cfg.MODEL.META_ARCHITECTURE = "CATSeg"
    cfg.MODEL.DEVICE = "auto"  # auto: a GPU where there is one, else the CPU
    cfg.MODEL.WEIGHTS = ""  # a checkpoint of a whole model (encoder and head), for evaluation or to start from
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
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NAME = "CATSegHead"
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
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN = (384,)  # the shorter side becomes one of these
    cfg.INPUT.MAX_SIZE_TRAIN = 2048
    cfg.INPUT.MIN_SIZE_TEST = 640
    cfg.INPUT.MAX_SIZE_TEST = 2560
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = (384, 384)  # height, width
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0  # share of a crop that one class may fill; 1: any
    cfg.INPUT.COLOR_AUG_SSD = True  # brightness, contrast, saturation and hue jitter


def _add_solver(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    solver.BASE_LR = 2e-4
    solver.CLIP_MULTIPLIER = 0.01  # factor on the learning rate of the encoder
    solver.WEIGHT_DECAY = 1e-4
    solver.WEIGHT_DECAY_NORM = 0.0  # of normalisation layers
    solver.WEIGHT_DECAY_EMBED = 0.0  # of embedding tables
    solver.MAX_ITER = 80_000
    solver.WARMUP_ITERS = 0  # a linear warm-up, then half a cosine to zero
    solver.WARMUP_FACTOR = 1.0
    solver.IMS_PER_BATCH = 4  # images per batch, over all processes
    solver.ACCUMULATION_STEPS = 1  # batches per optimizer step
    solver.CLIP_GRADIENTS.ENABLED = True
    solver.CLIP_GRADIENTS.CLIP_TYPE = "full_model"  # one norm over all parameters
    solver.CLIP_GRADIENTS.CLIP_VALUE = 0.01
    solver.AMP.ENABLED = False  # mixed precision
    solver.AMP.DTYPE = "bf16"  # bf16, fp16 (fp16 needs a GPU)
    solver.CHECKPOINT_PERIOD = 5000
    solver.MAX_CHECKPOINTS = 3  # periodic checkpoints that are kept; 0: all
    cfg.SEED = 0  # of the weights' initialisation, the order of samples and their augmentation


def _add_test(cfg: CfgNode) -> None:
    test = cfg.TEST
    test.EVAL_PERIOD = 5000
    test.SEM_SEG_OUTPUT = "labels"  # what the model returns: labels (memory independent of classes) or scores
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


def get_catseg_cfg(config_file: str | Path = "", opts: Sequence[str] = ()) -> CfgNode:
    """The configuration of a file with overrides, checked.

    Args:
        config_file: a path, or the bare name of a file in ``projects/DeCLIP/configs``; empty: the defaults.
        opts: ``KEY VALUE`` pairs.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a value impossible.
    """
    cfg = get_cfg()
    add_catseg_config(cfg)
    merge_config(cfg, config_file, opts, keys_in="catseg/config.py")
    check_config(cfg)
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Refuse values that can only fail later.

    Raises:
        ConfigError: naming the key and what it may be.
    """
    check_solver(cfg.SOLVER)
    choices = {
        "MODEL.ENCODER.CONTEXT": (cfg.MODEL.ENCODER.CONTEXT, ["", *(kind.value for kind in ContextType)]),
        "MODEL.ENCODER.ATTENTION_SCALE": (
            cfg.MODEL.ENCODER.ATTENTION_SCALE,
            ["", *(kind.value for kind in AttentionScale)],
        ),
        "MODEL.ENCODER.FINETUNE": (cfg.MODEL.ENCODER.FINETUNE, [policy.value for policy in FinetunePolicy]),
        "MODEL.TEXT.PROMPTS": (cfg.MODEL.TEXT.PROMPTS, [prompts.value for prompts in Templates]),
        "TEST.AMP.DTYPE": (cfg.TEST.AMP.DTYPE, [precision.value for precision in Precision]),
        "TEST.SEM_SEG_OUTPUT": (cfg.TEST.SEM_SEG_OUTPUT, ["labels", "scores"]),
        "INPUT.FORMAT": (cfg.INPUT.FORMAT, ["RGB"]),
        "INPUT.CROP.TYPE": (cfg.INPUT.CROP.TYPE, ["absolute"]),
    }
    check_choices(choices)
    positive = {
        "MODEL.ENCODER.GRID": cfg.MODEL.ENCODER.GRID,
        "MODEL.SEM_SEG_HEAD.WINDOW_SIZE": cfg.MODEL.SEM_SEG_HEAD.WINDOW_SIZE,
        "MODEL.SEM_SEG_HEAD.TOKEN_CHUNK": cfg.MODEL.SEM_SEG_HEAD.TOKEN_CHUNK,
    }
    check_at_least(1, positive)
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
