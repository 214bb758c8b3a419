"""The configuration keys that every training here reads, and the rules between them.

A program's tree holds the keys that it declares and no others, on either host: :data:`TRAINING_KEYS`, with defaults of
its own (:func:`d2host.engine.keys.with_defaults`), then its own. ``docs/config.md`` lists them all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from d2host.engine.config_file import read_config
from d2host.engine.errors import ConfigError
from d2host.engine.keys import SWITCH, Choice, Integer, Key, Keys, Many, Number, Row, Text, check_keys, group
from d2host.engine.precision import AUTO, Precision

if TYPE_CHECKING:
    from d2host import CfgNode

SIDE = Integer(least=1, most=8192)  # of an image, pixels
PRECISION = Choice.of(Precision)
AMP = Choice(AUTO, True, False)

TRAINING_KEYS: Keys = {
    "VERSION": Key(2, Choice(2), "of the format, as Detectron2 counts"),
    "OUTPUT_DIR": Key("./output", Text(empty=False), "folder of logs, checkpoints and results"),
    "SEED": Key(
        0,
        Integer(least=-1, most=2**31 - 1),
        "of initial weights, of the order of samples and of augmentation; -1: other initial weights each time",
    ),
    "CUDNN_BENCHMARK": Key(False, SWITCH, "let cuDNN try its algorithms first"),
    "MODEL.DEVICE": Key("auto", Text(empty=False), "auto (a GPU where there is one, else the CPU), cpu, cuda, cuda:1"),
    "MODEL.WEIGHTS": Key("", Text(), "a checkpoint of a whole model, for evaluation or to start from"),
    "DATALOADER.NUM_WORKERS": Key(4, Integer(most=64), "processes that load samples; 0: the training's own"),
    "TEST.EVAL_PERIOD": Key(0, Integer(), "iterations between evaluations; 0: only at the end"),
    **group(
        "SOLVER",
        BASE_LR=Key(1e-4, Number(above=0), "learning rate, after the warm-up"),
        WEIGHT_DECAY=Key(1e-4, Number(least=0), "of AdamW"),
        BETAS=Key((0.9, 0.999), Many(Number(least=0, below=1), length=2), "of AdamW"),
        EPS=Key(1e-8, Number(above=0), "of AdamW"),
        MAX_ITER=Key(40_000, Integer(least=1), "iterations of the whole training"),
        WARMUP_ITERS=Key(0, Integer(), "of a linear warm-up, which half a cosine to zero follows"),
        WARMUP_FACTOR=Key(0.0, Number(least=0, most=1), "share of the learning rate with which the warm-up begins"),
        IMS_PER_BATCH=Key(16, Integer(least=1, most=65_536), "samples per batch, over all processes"),
        ACCUMULATION_STEPS=Key(1, Integer(least=1), "batches per optimizer step"),
        CHECKPOINT_PERIOD=Key(5000, Integer(), "iterations between checkpoints; 0: only at the end"),
        MAX_CHECKPOINTS=Key(3, Integer(), "periodic checkpoints that are kept; 0: all"),
    ),
    **group(
        "SOLVER.CLIP_GRADIENTS",
        ENABLED=Key(False, SWITCH, "clip the gradient"),
        CLIP_TYPE=Key("full_model", Choice("full_model"), "one norm over all parameters"),
        CLIP_VALUE=Key(1.0, Number(above=0), "largest L2 norm of the gradient"),
    ),
    **group(
        "SOLVER.AMP",
        ENABLED=Key(False, AMP, "mixed precision in training; auto: where the processor has instructions for it"),
        DTYPE=Key("bf16", PRECISION, "of mixed precision that is enabled, and not by auto; fp16 needs a GPU"),
    ),
}

EVALUATION_KEYS: Keys = {
    "TEST.EXPECTED_RESULTS": Key(
        [],
        Many(Row(Text(empty=False), Text(empty=False), Number(), Number(least=0)), empty=True),
        "of the first test set: [task, metric, value, tolerance] each; other results end --eval-only with status 1",
    ),
    **group(
        "TEST.AMP",
        ENABLED=Key(False, AMP, "mixed precision in evaluation; auto: where the processor has instructions for it"),
        DTYPE=Key("bf16", PRECISION, "of mixed precision that is enabled in evaluation, and not by auto"),
    ),
}
"""Of programs that evaluate on datasets by name."""


@dataclass(frozen=True)
class Configuration:
    """The configuration of a program that trains: its keys, and the rules between them.

    Attributes:
        keys: all that it reads.
        check_rules: refuses (ConfigError) values that do not fit each other, of which each by itself may be.
    """

    keys: Keys
    check_rules: Callable[["CfgNode"], None] = lambda cfg: None

    def read(self, config_file: str | Path = "", opts: Sequence[str] = ()) -> "CfgNode":
        """The configuration of a file with overrides, checked.

        Args:
            config_file: a path, or the bare name of a recipe; empty: the defaults.
            opts: ``KEY VALUE`` pairs.

        Raises:
            ConfigError: the file is missing or no config, a key is unknown, or a value impossible.
        """
        cfg = read_config(self.keys, config_file, opts)
        self.check(cfg)
        return cfg

    def check(self, cfg: "CfgNode") -> None:
        """Refuse values that can only fail later, in a tree that may have been filled by hand.

        Raises:
            ConfigError: naming the key and what it may be.
        """
        check_keys(cfg, self.keys)
        check_warmup(cfg)
        self.check_rules(cfg)


def check_warmup(cfg: "CfgNode") -> None:
    """Refuse a warm-up that lasts to the end.

    Raises:
        ConfigError: naming both keys.
    """
    solver = cfg.SOLVER
    if solver.WARMUP_ITERS >= solver.MAX_ITER:
        raise ConfigError(
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is not below SOLVER.MAX_ITER {solver.MAX_ITER}, so that the "
            f"learning rate would never reach SOLVER.BASE_LR: lower it, for instance to {solver.MAX_ITER // 20}"
        )
