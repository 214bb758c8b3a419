"""The configuration of nano pre-training: every key, with its default and what it means."""

from d2host.engine.config import TRAINING_KEYS, Configuration
from d2host.engine.keys import Choice, Integer, Key, Keys, Number, Text, group, with_defaults
from nanoworld.plugin import NANO, NANO_12

CLIP, VFM, DIFFUSION = "clip", "vfm", "diffusion"
SIDE = Integer(least=16, most=512, multiple_of=8)  # pixels

KEYS: Keys = {
    **with_defaults(
        TRAINING_KEYS,
        {
            "SOLVER.BASE_LR": 1e-3,
            "SOLVER.WEIGHT_DECAY": 0.1,  # of matrices; vectors do not decay
            "SOLVER.BETAS": (0.9, 0.98),
            "SOLVER.EPS": 1e-6,
            "SOLVER.MAX_ITER": 5000,
            "SOLVER.WARMUP_ITERS": 200,
            "SOLVER.IMS_PER_BATCH": 32,  # scenes
            "SOLVER.CLIP_GRADIENTS.ENABLED": True,
            "SOLVER.AMP.ENABLED": "auto",
            "SOLVER.CHECKPOINT_PERIOD": 500,
            "SOLVER.MAX_CHECKPOINTS": 2,
            "TEST.EVAL_PERIOD": 500,
        },
    ),
    "MODEL.WEIGHTS": Key("", Text(), "a checkpoint, weights that an earlier run has left, or shipped ones by name"),
    **group(
        "MODEL.PRETRAINING",
        KIND=Key(CLIP, Choice(CLIP, VFM, DIFFUSION), "clip (photos and captions), vfm or diffusion (images)"),
        ENCODER=Key(
            NANO, Choice(NANO, NANO_12), "clip: nano (6 blocks), nano-clip-12 (12, of half the parameters each)"
        ),
        GROW_FROM=Key("", Text(), "clip: weights of a nano with half the blocks, each of which begins as two"),
        DROP_PATH=Key(0.0, Number(least=0, below=1), "clip: stochastic depth, from 0 at the first block to this"),
        PHOTOS_PER_SCENE=Key(4, Integer(least=1, most=100), "clip: the whole scene, and close-ups"),
        PHOTO_SIZE=Key(128, SIDE, "clip: side of the photos, pixels"),
        HIDDEN_SHARE=Key(0.4, Number(least=0, below=1), "vfm: share of the patches of a view that are hidden"),
        REPULSION=Key(32.0, Number(above=0), "vfm: weight of the features of unlike places being orthogonal"),
        VIEW_SIZE=Key(96, SIDE, "vfm: side of a view, pixels"),
    ),
    **group(
        "TEST",
        SCENE_SEED=Key(2, Integer(most=2**31 - 1), "series of the scenes to evaluate on; 2 is that of nano_val"),
        MAX_IMAGES=Key(100, Integer(least=1, most=10_000), "scenes to evaluate on"),
    ),
}


get_pretraining_cfg = Configuration(KEYS).read
