"""The folder that holds all datasets."""

import os
from pathlib import Path


def dataset_root() -> Path:
    """``$DETECTRON2_DATASETS``, by default ``datasets`` below the working directory."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets"))
