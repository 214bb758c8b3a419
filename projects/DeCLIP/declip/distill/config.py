"""The configuration of distillation: every key, with its default and what it means, and the rules between them."""

from d2host import CfgNode
from d2host.engine.config import PRECISION, SIDE, TRAINING_KEYS, Configuration
from d2host.engine.errors import ConfigError
from d2host.engine.keys import SWITCH, Choice, Integer, Key, Keys, Many, Number, Text, group, with_defaults
from declip.contexts import AttentionScale, ContextType
from declip.keys import ENCODER_KEYS
from declip.losses.base import StudentFeature
from declip.losses.distances import Direction
from declip.teachers.completed import Order
from declip.teachers.diffusion import Fusion

TEMPERATURE, DIRECTION = Number(least=1e-3, most=100), Choice.of(Direction)

KEYS: Keys = {
    **with_defaults(
        TRAINING_KEYS,
        {
            "SOLVER.BASE_LR": 1e-5,
            "SOLVER.WEIGHT_DECAY": 0.1,  # of matrices; vectors do not decay
            "SOLVER.BETAS": (0.9, 0.98),
            "SOLVER.EPS": 1e-6,
            "SOLVER.MAX_ITER": 44_358,  # 6 epochs of COCO train2017 at batch 16
            "SOLVER.WARMUP_ITERS": 1000,
            "SOLVER.CHECKPOINT_PERIOD": 1000,
        },
    ),
    **ENCODER_KEYS,
    **group(
        "MODEL.ENCODER",
        CONTEXT=Key("qk", Choice.of(ContextType), "what the last block attends by"),
        ATTENTION_SCALE=Key("sqrt_d", Choice.of(AttentionScale), "of the last block's attention"),
    ),
    **group(
        "MODEL.TEACHER",
        NAME=Key(
            "dinov2_vitb14",
            Text(empty=False),
            "dinov2_vit{s,b,l}14, dinov3_vit{s,b,l}16, dino_vitb{8,16}, sam_vit{b,l}, nano-vfm, or any timm ViT",
        ),
        WEIGHTS=Key("pretrained", Text(empty=False), "pretrained (downloaded), random, or a weight file"),
        LAYER=Key(-1, Integer(least=-1000, most=999), "the block whose output is its feature, from 0; -1: the last"),
        PRECISION=Key("fp32", PRECISION, "of the teacher's forward pass"),
    ),
    **group(
        "MODEL.DIFFUSION",
        NAME=Key(
            "",
            Text(),
            "the diffusion model that completes the teacher's affinities: a folder, owner/name on the hub, or a "
            "plug-in's; empty: none",
        ),
        WEIGHTS=Key("pretrained", Choice("pretrained", "random"), "pretrained, or random (for trying things out)"),
        PRECISION=Key("fp32", PRECISION, "of its weights and its forward pass"),
        LAYERS=Key(
            [],
            Many(Text(empty=False), empty=True, distinct=True),
            "modules of its UNet whose self-attentions count, such as up_blocks.3.attentions.0; []: the first two "
            "attention blocks of the finest level on the way up",
        ),
        TIMESTEP=Key(45, Integer(most=999), "entry of the sampler's timesteps, from the noisiest, 0"),
        STEPS=Key(50, Integer(least=1, most=1000), "of the sampler"),
        THRESHOLD=Key(0.2, Number(least=0, below=1), "share of its column's maximum below which attention is dropped"),
        FUSION=Key("chain", Choice.of(Fusion), "of heads and layers: the product of their maps, or the mean"),
        ORDER=Key("affinity", Choice.of(Order), "which factor of affinity times attention stands first"),
        CELLS=Key(2, Integer(least=1, most=64), "latent cells along a token's side"),
        CACHE=Key("", Text(), "folder that keeps attention maps, image by image; empty: none"),
        CACHE_LIMIT=Key(100.0, Number(above=0), "most GiB of that folder"),
    ),
    **group(
        "MODEL.DISTILL",
        TERMS=Key(
            ["content", "context"],
            Many(Choice("content", "context", "region_correlation"), distinct=True),
            "the losses whose weighted sum is learned",
        ),
        LAST_N_BLOCKS=Key(
            0, Integer(most=1000), "blocks of the image tower that train, from the last; 0: all, and the embeddings"
        ),
        ENSEMBLE_ALPHA=Key(
            1.0,
            Number(above=0, most=1),
            "share of the student in what is evaluated and saved; the rest is the original's",
        ),
        RECOMPUTE=Key(False, SWITCH, "recompute the student's blocks in the backward pass: less memory, more time"),
    ),
    "MODEL.DISTILL.CONTENT.WEIGHT": Key(
        1.0, Number(above=0), "of: regions mean what CLIP sees in their crops (Eq. 7); to do without, see TERMS"
    ),
    **group(
        "MODEL.DISTILL.CONTEXT",
        WEIGHT=Key(
            0.25, Number(above=0), "of: tokens belong together as the teacher's do (lambda of Eq. 10); see TERMS"
        ),
        FEATURE=Key(
            "context",
            Choice.of(StudentFeature),
            "of the student that learns: context (DeCLIP), content (not decoupled, Table 1)",
        ),
        DISTANCE=Key(
            "l2", Choice("l2", "kl"), "between rows of the correlation matrices: l2 (DeCLIP), kl (generalized)"
        ),
        ROWS=Key(256, Integer(least=1), "of a correlation matrix that exist at a time"),
        TEMPERATURE=Key(0.1, TEMPERATURE, "that divides both matrices' rows before the softmax of kl"),
        DIRECTION=Key("teacher", DIRECTION, "of kl: its expectation under the teacher's rows, or the student's"),
        NORMALIZED=Key(
            "cosine",
            Choice("cosine", "attention"),
            "by kl, of the student: cosines, or the logits of its attention (Eq. 6), which no temperature divides",
        ),
    ),
    **group(
        "MODEL.DISTILL.REGION_CORRELATION",
        WEIGHT=Key(
            0.05, Number(above=0), "of: regions of the content feature relate as the foundation model's do; see TERMS"
        ),
        POINTS=Key(
            1, Integer(least=1, most=32), "along a side of a region, related within it; 1: whole regions, to each other"
        ),
        TEMPERATURE=Key(0.1, TEMPERATURE, "that divides both matrices' rows before the softmax"),
        DIRECTION=Key("teacher", DIRECTION, "of the divergence, as of the context's"),
    ),
    **group(
        "DATASETS",
        IMAGES=Key(
            "",
            Text(),
            "a folder, a COCO .json, a .txt list, .tar shards (also a pattern, or addresses), or a nano split",
        ),
        IMAGE_ROOT=Key("", Text(), "where relative paths of a .json or .txt start; empty: the folder of that file"),
        PROPOSALS=Key(
            "",
            Text(),
            "boxes whose crops the CLIP teacher sees, a .npz of tools/write_proposals.py or a COCO .json; empty: the "
            "cells of a grid",
        ),
    ),
    **group(
        "INPUT",
        STUDENT_SIZE=Key(560, SIDE, "longer side of the student's view, a multiple of its patch size"),
        MAX_SPLIT=Key(6, Integer(least=1, most=32), "most rows or columns of the crop grid"),
        MAX_CROPS=Key(36, Integer(least=1, most=1024), "most crops per image"),
        CROP_SIZE=Key(
            0,
            Integer(most=SIDE.most),
            "side the CLIP teacher sees crops at, a multiple of its patch size; 0: its native side",
        ),
    ),
    **group(
        "TEST",
        EVAL_PERIOD=Key(0, Integer(), "iterations between validations; 0: none"),
        REGIONS=Key("", Text(), "labelled regions to validate on: a COCO panoptic .json, or a dataset of a plug-in"),
        IMAGE_ROOT=Key("", Text(), "folder of the images of a panoptic .json"),
        CAPTIONS=Key(
            "",
            Text(),
            "captioned images to retrieve, which the class token should do as before: a COCO captions .json, a folder "
            "with a .txt beside each image, or a dataset of a plug-in",
        ),
        CAPTIONS_ROOT=Key("", Text(), "folder of the images of a captions .json; empty: that of the file"),
        CLASSES=Key("", Text(), "a folder with a folder of images for each class, for the class token to classify"),
        MAX_IMAGES=Key(100, Integer(), "of each of these sets; 0: all"),
    ),
}


def _check_rules(cfg: CfgNode) -> None:
    if cfg.TEST.EVAL_PERIOD > 0 and not (cfg.TEST.REGIONS or cfg.TEST.CAPTIONS or cfg.TEST.CLASSES):
        raise ConfigError(
            f"TEST.EVAL_PERIOD is {cfg.TEST.EVAL_PERIOD}, but TEST.REGIONS is empty, as are TEST.CAPTIONS and "
            "TEST.CLASSES: name a panoptic .json with regions to validate on, or set the period to 0"
        )
    diffusion = cfg.MODEL.DIFFUSION
    if diffusion.TIMESTEP >= diffusion.STEPS:
        raise ConfigError(
            f"MODEL.DIFFUSION.TIMESTEP {diffusion.TIMESTEP} is not below MODEL.DIFFUSION.STEPS {diffusion.STEPS}: "
            "choose an earlier one"
        )
    if diffusion.NAME and "context" not in cfg.MODEL.DISTILL.TERMS:
        raise ConfigError(
            "MODEL.DIFFUSION.NAME is given, but only the term 'context' learns from affinities: add it to "
            "MODEL.DISTILL.TERMS, or leave the name empty"
        )
    if cfg.DATASETS.PROPOSALS and not {"content", "region_correlation"} & {*cfg.MODEL.DISTILL.TERMS}:
        raise ConfigError(
            f"DATASETS.PROPOSALS is '{cfg.DATASETS.PROPOSALS}', but only the terms 'content' and 'region_correlation' "
            "learn from them: add one to MODEL.DISTILL.TERMS, or leave the proposals out"
        )
    distill, context = cfg.MODEL.DISTILL, ContextType(cfg.MODEL.ENCODER.CONTEXT)
    if "context" in distill.TERMS and distill.CONTEXT.FEATURE == "context" and not context.decoupled:
        raise ConfigError(
            "MODEL.DISTILL.CONTEXT.FEATURE 'context' needs a context feature, which MODEL.ENCODER.CONTEXT "
            f"'{context.value}' does not have: choose q, k, v, qk or all, or the feature 'content'"
        )
    if distill.CONTEXT.NORMALIZED == "attention" and distill.CONTEXT.DISTANCE != "kl":
        raise ConfigError(
            "MODEL.DISTILL.CONTEXT.NORMALIZED is 'attention', which only the distance 'kl' normalizes: set "
            "MODEL.DISTILL.CONTEXT.DISTANCE kl"
        )


_CONFIGURATION = Configuration(KEYS, _check_rules)
get_distillation_cfg, check_config = _CONFIGURATION.read, _CONFIGURATION.check
