"""The folder that holds all datasets."""

import os
from pathlib import Path

from d2host.engine.errors import DataError

VARIABLE = "DETECTRON2_DATASETS"


def dataset_root() -> Path:
    """``$DETECTRON2_DATASETS``, by default (unset or empty) ``datasets`` below the working directory.

    It need not exist: the nano datasets make it.

    Raises:
        DataError: it is no folder, or of a user (``~name``) that there is not.
    """
    value = os.environ.get(VARIABLE, "").strip() or "datasets"
    try:
        root = Path(value).expanduser()
    except RuntimeError as error:
        raise DataError(f"{VARIABLE} is '{value}' ({error}): set it to the folder that holds the datasets") from error
    if os.path.lexists(root) and not os.path.isdir(root):
        raise DataError(f"{VARIABLE} is '{value}', which is no folder: set it to the folder that holds the datasets")
    return root
