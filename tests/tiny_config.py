"""A CAT-Seg that trains within a second or two, as a config file."""

TEMPLATE = """
MODEL:
  DEVICE: cpu
  ENCODER: {{NAME: nano, WEIGHTS: {weights}, CONTEXT: qk, FINETUNE: full, GRID: 4}}
  TEXT: {{PROMPTS: name}}
  SEM_SEG_HEAD:
    HIDDEN_DIM: 8
    NUM_LAYERS: 1
    NUM_HEADS: 2
    WINDOW_SIZE: 2
    GUIDANCE_PROJECTED_DIMS: (8, 8)
    DECODER_DIMS: (8, 4)
    DECODER_GUIDANCE_DIMS: (8, 8)
    DECODER_GUIDANCE_PROJECTED_DIMS: (4, 2)
DATASETS: {{TRAIN: [{dataset}], TEST: [{dataset}]}}
SOLVER:
  IMS_PER_BATCH: {batch}
  BASE_LR: 0.0001
  CLIP_MULTIPLIER: 0.01
  MAX_ITER: {iterations}
  CHECKPOINT_PERIOD: {period}
INPUT: {{MIN_SIZE_TRAIN: [{side}], MIN_SIZE_TEST: {side}, CROP: {{SIZE: [32, 32]}}}}
TEST: {{EVAL_PERIOD: 0, SLIDING_WINDOW: {{ENABLED: false}}}}
DATALOADER: {{NUM_WORKERS: {workers}}}
VERSION: 2
"""


def tiny_config(weights="random", dataset="nano_val", batch=4, iterations=6, period=2, side=64, workers=1) -> str:
    """The text of the config; ``period`` is of checkpoints, ``side`` of images, pixels."""
    return TEMPLATE.format(**locals())
