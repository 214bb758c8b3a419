"""Every configuration key of F-ViT: its default, what it may be, and what it means.

Names are Detectron2's where it has them, defaults those of OV-COCO with ViT-B/16. Keys of every training stand in
:mod:`d2host.engine.config`, rules between keys in :mod:`fvit.config`.
"""

from d2host.engine.config import EVALUATION_KEYS, TRAINING_KEYS
from d2host.engine.keys import SWITCH, Choice, Integer, Key, Keys, Many, Number, Text, group, with_defaults
from declip.keys import ENCODER_KEYS
from declip.models.templates import Templates

SHARE = Number(least=0, most=1)
STATISTIC = Many(Number(least=0, most=255), length=3, empty=True)

KEYS: Keys = {
    **with_defaults(
        TRAINING_KEYS,
        {
            "SOLVER.BASE_LR": 1e-4,
            "SOLVER.WEIGHT_DECAY": 0.1,
            "SOLVER.MAX_ITER": 5052,
            "SOLVER.WARMUP_ITERS": 250,
            "SOLVER.WARMUP_FACTOR": 0.001,
            "SOLVER.IMS_PER_BATCH": 64,
            "SOLVER.CLIP_GRADIENTS.ENABLED": True,
            "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 1.0,
            "SOLVER.CHECKPOINT_PERIOD": 1684,
        },
    ),
    "MODEL.META_ARCHITECTURE": Key("FViT", Text(empty=False), "the registered model"),
    "MODEL.MASK_ON": Key(False, SWITCH, "learn and predict masks, too"),
    "MODEL.PIXEL_MEAN": Key(
        (123.675, 116.28, 103.53), STATISTIC, "of images, RGB in 0..255; F-ViT's are ImageNet's; (): the encoder's"
    ),
    "MODEL.PIXEL_STD": Key((58.395, 57.12, 57.375), STATISTIC, "of images; (): the encoder's"),
    **ENCODER_KEYS,
    "MODEL.ENCODER.BLOCKS": Key(
        (3, 5, 7, 11), Many(Integer(most=999), length=4), "whose outputs make the pyramid, finest first"
    ),
    **group(
        "MODEL.ENCODER",
        CACHE=Key("", Text(), "folder that keeps features of training images, of one scale; empty: none"),
        CACHE_LIMIT=Key(100.0, Number(above=0), "most GiB of that folder"),
    ),
    **group(
        "MODEL.TEXT",
        PROMPTS=Key("detection", Choice.of(Templates), "what class names are put into; detection: 63 of them"),
        CACHE=Key("output/class_embeddings", Text(), "folder that keeps embeddings of names; empty: none does"),
    ),
    "MODEL.FPN.OUT_CHANNELS": Key(256, Integer(least=1, most=2048), "of the pyramid, and of all convolutions on it"),
    **group(
        "MODEL.RPN",
        NORM=Key(False, SWITCH, "batch normalisation in the convolutions"),
        PRE_NMS_TOPK=Key(2000, Integer(least=1, most=100_000), "proposals per level before suppression"),
        POST_NMS_TOPK=Key(1000, Integer(least=1, most=100_000), "proposals per image after it"),
        NMS_THRESH=Key(0.7, SHARE, "IoU of proposals of a level, above which the less likely is suppressed"),
        BATCH_SIZE_PER_IMAGE=Key(256, Integer(least=2, most=100_000), "anchors that losses are computed of"),
    ),
    "MODEL.ROI_BOX_HEAD.NUM_CONV": Key(4, Integer(least=1, most=16), "3×3 convolutions before the layers"),
    **group(
        "MODEL.ROI_HEADS",
        FINEST_SIZE=Key(56.0, Number(above=0), "boxes of this side in pixels, and twice it, change levels"),
        BATCH_SIZE_PER_IMAGE=Key(512, Integer(least=2, most=100_000), "proposals that losses are computed of"),
        POSITIVE_FRACTION=Key(0.25, Number(above=0, most=1), "share of objects among them, at most"),
        BACKGROUND_WEIGHT=Key(0.6, Number(least=0), "of background in the loss of classes; 0.6 OV-COCO, 0.9 OV-LVIS"),
    ),
    **group(
        "DATASETS",
        TRAIN=Key(
            (), Many(Text(empty=False), empty=True), "registered names, of one class list, which says what is novel"
        ),
        TEST=Key((), Many(Text(empty=False), empty=True, distinct=True), "registered names"),
    ),
    **group(
        "INPUT",
        FORMAT=Key("RGB", Choice("RGB"), "of images"),
        IMAGE_SIZE=Key(640, Integer(least=32, most=8192), "side of the padded square, a multiple of two patches"),
        MIN_SCALE=Key(0.1, Number(above=0, most=10), "large-scale jitter: the longer side over the square's, at least"),
        MAX_SCALE=Key(2.0, Number(above=0, most=10), "and at most"),
        RANDOM_FLIP=Key("horizontal", Choice("horizontal", "none"), "mirror left and right, half of the time"),
    ),
    **group(
        "SOLVER",
        STEPS=Key((), Many(Integer(least=1), empty=True), "iterations at which the learning rate falls"),
        GAMMA=Key(0.1, Number(above=0, most=1), "by this factor"),
        WEIGHT_DECAY_NORM=Key(0.1, Number(least=0), "of normalisation layers"),
    ),
    **EVALUATION_KEYS,
    **group(
        "TEST",
        SCORE_THRESH=Key(0.01, Number(least=0, below=1), "that a detection's score is above"),
        NMS_THRESH=Key(0.4, SHARE, "IoU of detections of a class, above which the less certain is suppressed"),
        DETECTIONS_PER_IMAGE=Key(100, Integer(least=1, most=100_000), "at most"),
        MASKS=Key(True, SWITCH, "predict and evaluate masks, too, where MODEL.MASK_ON"),
        VISUALIZE=Key(0, Integer(), "pictures per dataset: detections and ground truth side by side"),
        VISUALIZE_SCORE=Key(0.3, Number(least=0, below=1), "that the score of a detection in them is above"),
    ),
    **group(
        "TEST.ENSEMBLE",
        ALPHA=Key(0.1, SHARE, "weight of CLIP's dense features in the scores of base classes"),
        BETA=Key(0.8, SHARE, "their weight in the scores of novel classes"),
        VLM_TEMPERATURE=Key(45.0, Number(above=0), "of their cosines with texts; DeCLIP: 45 OV-COCO, 90 OV-LVIS"),
        DETECTOR_TEMPERATURE=Key(0.0, Number(least=0), "of the box head's cosines; 0: the one it has learned"),
    ),
}
