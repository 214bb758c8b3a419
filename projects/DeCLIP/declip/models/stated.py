"""How the encoder of a whole model attends, where its config leaves that to weights."""

import logging
from contextlib import suppress

from d2host import CfgNode
from d2host.engine.checkpoint_file import read_run
from d2host.engine.errors import CheckpointError
from declip.models.factory import resolve_weights
from declip.weights.files import is_weight_file, read_metadata


def state_attention(cfg: CfgNode, checkpoint: str = "") -> None:
    """Write into a config how the last block attends, where it leaves that to the weights, in place.

    The checkpoint of a run, whose encoder replaces any other, has it in the config it was trained with; an encoder's
    weight file says so. Then ``config.yaml`` and every checkpoint of the run say so as well, and none of them is
    evaluated in another way. Where nobody says it, the log names the default that is taken.

    Args:
        cfg: the configuration.
        checkpoint: of a whole model, that will be loaded; without, ``MODEL.WEIGHTS``.
    """
    options, checkpoint = cfg.MODEL.ENCODER, checkpoint or cfg.MODEL.WEIGHTS
    said, path = {}, resolve_weights(options.WEIGHTS)
    if checkpoint:
        with suppress(CheckpointError, KeyError):  # weights alone, which are refused later if they are none
            said = read_run(checkpoint, lazy=True)["training"]["config"]["MODEL"]["ENCODER"]
    if not said and options.WEIGHTS and is_weight_file(path):
        facts = read_metadata(path)
        said = {"CONTEXT": facts.get("context"), "ATTENTION_SCALE": facts.get("attention_scale")}
    for name, default in (("CONTEXT", "qk"), ("ATTENTION_SCALE", "sqrt_d")):
        options[name] = options[name] or said.get(name) or ""
        if not options[name] and cfg.MODEL.WEIGHTS:
            logging.getLogger(__name__).warning(
                "%s does not say MODEL.ENCODER.%s: %s is taken; give it if the model was trained with another",
                *(cfg.MODEL.WEIGHTS, name, default),
            )
