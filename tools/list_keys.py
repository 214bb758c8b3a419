#!/usr/bin/env python3
"""Print the reference of all configuration keys, which is docs/config.md.

tools/list_keys.py > docs/config.md
"""

import argparse

INTRODUCTION = """# Configuration keys

Written by `tools/list_keys.py`. Keys are set in a YAML file (`--config-file`) or, last on the command line, as
`KEY VALUE` pairs; a file may name others whose values count where it says nothing (`_BASE_`). Whatever is not said has
the default below. A key that is not listed, or a value that is not what it may be, is refused when the config is read.
"""


def reference() -> str:
    """The page: a table for each program."""
    from catseg.keys import KEYS as SEGMENTATION
    from d2host.engine.keys import as_table
    from declip.distill.config import KEYS as DISTILLATION
    from declip.models.backbone import KEYS as BACKBONE
    from fvit.keys import KEYS as DETECTION
    from nanoworld.pretraining.config import KEYS as PRETRAINING

    programs = {
        "tools/train_net.py": SEGMENTATION,
        "tools/train_net.py with `MODEL.META_ARCHITECTURE FViT`": DETECTION,
        "tools/train_declip.py": DISTILLATION,
        "tools/nano/pretrain.py": PRETRAINING,
        "Detectron2 with `DenseCLIPBackbone`, see [backbone.md](backbone.md)": BACKBONE,
    }
    return "\n\n".join([INTRODUCTION.rstrip(), *(f"## {name}\n\n{as_table(keys)}" for name, keys in programs.items())])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(reference())
