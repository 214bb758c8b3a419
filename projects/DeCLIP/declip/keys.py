"""Configuration keys that several programs share: which encoder it is."""

from d2host.engine.keys import Choice, Key, Keys, Text, group
from declip.contexts import AttentionScale, ContextType

ENCODER_KEYS: Keys = group(
    "MODEL.ENCODER",
    NAME=Key("EVA02-B-16", Text(empty=False), "an open_clip model name, or a plug-in's, such as nano"),
    WEIGHTS=Key("", Text(), "a weight file, an open_clip tag, a plug-in's name, or random"),
    CONTEXT=Key(
        "", Choice.of(ContextType, ""), "what the last block attends by; empty: what the weight file says, else qk"
    ),
    ATTENTION_SCALE=Key("", Choice.of(AttentionScale, ""), "empty: what the weight file says, else sqrt_d"),
)
