"""The host symbols as Detectron2 has them, adapted where its behaviour would harm the project's output."""

import logging

from detectron2.config import CfgNode
from detectron2.engine import default_setup as _default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from d2host.resolve import HOST
from d2host.symbols import SYMBOLS

__all__ = list(SYMBOLS)


def default_setup(cfg: CfgNode, args) -> None:
    """Detectron2's set-up (log, config.yaml, seed), with the host named in the first line of ``log.txt``."""
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="d2host")
    logging.getLogger("d2host").info(str(HOST))
    _default_setup(cfg, args)
