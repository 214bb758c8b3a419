"""Every configuration key of CAT-Seg: its default, what it may be, and what it means.

The usual keys (``MODEL``, ``INPUT``, ``SOLVER``, ``TEST``, ...) mean what users of Detectron2 expect. Those of every
training stand in :mod:`d2host.engine.config`, rules between keys in :mod:`catseg.config`.
"""

from d2host.engine.config import EVALUATION_KEYS, SIDE, TRAINING_KEYS
from d2host.engine.keys import SWITCH, Choice, Either, Integer, Key, Keys, Many, Number, Text, group, with_defaults
from declip.keys import ENCODER_KEYS
from declip.models.finetuning import FinetunePolicy
from declip.models.templates import Templates

CHANNELS = Integer(least=1, most=2048)
WINDOW = Integer(least=1, most=2048)  # pixels: class scores of that square are in memory at once

KEYS: Keys = {
    **with_defaults(
        TRAINING_KEYS,
        {
            "SOLVER.BASE_LR": 2e-4,
            "SOLVER.MAX_ITER": 80_000,
            "SOLVER.WARMUP_FACTOR": 1.0,
            "SOLVER.IMS_PER_BATCH": 4,
            "SOLVER.CLIP_GRADIENTS.ENABLED": True,
            "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.01,
            "TEST.EVAL_PERIOD": 5000,
        },
    ),
    "MODEL.META_ARCHITECTURE": Key("CATSeg", Text(empty=False), "the registered model"),
    **ENCODER_KEYS,
    **group(
        "MODEL.ENCODER",
        FINETUNE=Key(
            "attention",
            Choice.of(FinetunePolicy),
            "what of the encoder trains; attention: queries, values and positions of both towers",
        ),
        GRID=Key(
            24,
            Integer(least=1, most=128),
            "tokens per side of what the encoder sees: 384 px at patch 16, 336 at patch 14",
        ),
        GUIDANCE_BLOCKS=Key(
            (),
            Many(Integer(), length=2, empty=True),
            "two block indices; (): the ends of the first two thirds of the depth",
        ),
    ),
    "MODEL.TEXT.PROMPTS": Key(
        "single",
        Choice.of(Templates),
        'single: "A photo of a {} in the scene"; photo: "a photo of a {}"; name: "{}"; imagenet: 80 of them',
    ),
    **group(
        "MODEL.SEM_SEG_HEAD",
        NAME=Key("CATSegHead", Text(empty=False), "the registered head"),
        IGNORE_VALUE=Key(
            255,
            Integer(least=-1, most=65_535),
            "label that pixels without a class have in training samples, whatever it is in the label files; no class",
        ),
        HIDDEN_DIM=Key(128, CHANNELS, "channels of the cost embedding, a multiple of NUM_HEADS"),
        NUM_LAYERS=Key(2, Integer(least=1, most=16), "rounds of spatial and class aggregation"),
        NUM_HEADS=Key(4, CHANNELS, "attention heads of both"),
        WINDOW_SIZE=Key(12, Integer(least=1, most=256), "tokens per side of the spatial windows"),
        POOLING_SIZE=Key(
            (2, 1),
            Many(Integer(least=1, most=256), length=2),
            "pooling before class aggregation, training and evaluation",
        ),
        PADDED_CLASSES=Key(
            256,
            Integer(most=100_000),
            "class attention is padded to this many classes; of larger vocabularies, the most similar ones are "
            "aggregated, in training with all that an image's labels name; 0: neither",
        ),
        AGGREGATE_ALL=Key(False, SWITCH, "aggregate every class of larger vocabularies"),
        GUIDANCE_PROJECTED_DIMS=Key(
            (128, 128), Many(CHANNELS, length=2), "channels of projected appearance and text guidance"
        ),
        DECODER_DIMS=Key(
            (64, 32), Many(CHANNELS, length=2), "channels after each decoder stage, multiples of 16 or less"
        ),
        DECODER_GUIDANCE_DIMS=Key(
            (256, 128), Many(CHANNELS, length=2), "channels of up-convolved encoder features, per decoder stage"
        ),
        DECODER_GUIDANCE_PROJECTED_DIMS=Key((32, 16), Many(CHANNELS, length=2), "channels they are projected to"),
        TOKEN_CHUNK=Key(
            "auto",
            Either(Choice("auto"), Integer(least=1)),
            "tokens aggregated at once; auto: what a CPU's cache holds, or what fills half of a GPU's free memory",
        ),
        RECOMPUTE=Key(
            "auto",
            Choice("auto", True, False),
            "recompute activations of the aggregation in the backward pass: less memory, more time; auto: on a CPU, "
            "and where they would take more than half of a GPU's free memory",
        ),
    ),
    **group(
        "DATASETS",
        TRAIN=Key((), Many(Text(empty=False), empty=True), "registered names, of one class list"),
        TEST=Key((), Many(Text(empty=False), empty=True, distinct=True), "registered names"),
    ),
    **group(
        "INPUT",
        FORMAT=Key("RGB", Choice("RGB"), "of images"),
        MIN_SIZE_TRAIN=Key((384,), Many(SIDE), "the shorter side becomes one of these, pixels"),
        MAX_SIZE_TRAIN=Key(2048, SIDE, "limit of the longer side"),
        MIN_SIZE_TEST=Key(640, Integer(most=SIDE.most), "the shorter side; 0: images stay as they are"),
        MAX_SIZE_TEST=Key(2560, SIDE, "limit of the longer side"),
        RANDOM_FLIP=Key("horizontal", Choice("horizontal", "none"), "mirror left and right, half of the time"),
        COLOR_AUG_SSD=Key(True, SWITCH, "brightness, contrast, saturation and hue jitter"),
    ),
    **group(
        "INPUT.CROP",
        ENABLED=Key(True, SWITCH, "train on crops; off: on whole images"),
        TYPE=Key("absolute", Choice("absolute"), "of SIZE: pixels"),
        SIZE=Key((384, 384), Many(SIDE, length=2), "height, width"),
        SINGLE_CATEGORY_MAX_AREA=Key(1.0, Number(above=0, most=1), "share of a crop that one class may fill; 1: any"),
    ),
    **group(
        "SOLVER",
        CLIP_MULTIPLIER=Key(0.01, Number(least=0), "factor on the learning rate of the encoder"),
        WEIGHT_DECAY_NORM=Key(0.0, Number(least=0), "of normalisation layers"),
        WEIGHT_DECAY_EMBED=Key(0.0, Number(least=0), "of embedding tables"),
    ),
    **EVALUATION_KEYS,
    **group(
        "TEST",
        SAVE_PREDICTIONS=Key(False, SWITCH, "write every prediction as a label image"),
        VISUALIZE=Key(0, Integer(), "pictures per dataset: image, prediction and ground truth side by side"),
    ),
    **group(
        "TEST.SLIDING_WINDOW",
        ENABLED=Key(True, SWITCH, "segment in windows; off: the whole image, once"),
        SIZE=Key(640, WINDOW, "side of the square that test images are resized to"),
        KERNEL=Key(384, WINDOW, "side of a window"),
        OVERLAP=Key(0.333, Number(least=0, below=1), "of neighbouring windows, share of a window"),
        STITCH=Key(False, SWITCH, "windows meet in the encoder's last block, which sees the whole image"),
    ),
}
