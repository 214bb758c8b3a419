"""How the encoder of a whole model attends, where its config leaves that to weights."""

import logging

from d2host import CfgNode
from d2host.engine.checkpoint_file import read_run
from d2host.engine.errors import CheckpointError
from declip.models.factory import resolve_weights
from declip.weights.files import is_weight_file, read_metadata


def state_attention(cfg: CfgNode) -> None:
    """Write into a config how the last block attends, where it leaves that to the weights, in place.

    An encoder's weight file says so; the checkpoint of a run has it in the config it was trained with. Then
    ``config.yaml`` and every checkpoint of the run say so as well, and none of them is evaluated in another way. Where
    nobody says it, the log names the default that is taken.
    """
    options = cfg.MODEL.ENCODER
    said, path = {}, resolve_weights(options.WEIGHTS)
    if options.WEIGHTS and is_weight_file(path):
        facts = read_metadata(path)
        said = {"CONTEXT": facts.get("context"), "ATTENTION_SCALE": facts.get("attention_scale")}
    elif not options.WEIGHTS and cfg.MODEL.WEIGHTS:
        try:
            said = read_run(cfg.MODEL.WEIGHTS, lazy=True)["training"]["config"]["MODEL"]["ENCODER"]
        except (CheckpointError, KeyError):  # weights alone, which are refused later if they are none
            said = {}
    for name, default in (("CONTEXT", "qk"), ("ATTENTION_SCALE", "sqrt_d")):
        options[name] = options[name] or said.get(name) or ""
        if not options[name] and cfg.MODEL.WEIGHTS:
            logging.getLogger(__name__).warning(
                "%s does not say MODEL.ENCODER.%s: %s is taken; give it if the model was trained with another",
                *(cfg.MODEL.WEIGHTS, name, default),
            )
