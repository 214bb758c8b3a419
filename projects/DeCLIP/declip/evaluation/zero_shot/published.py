"""Published dense zero-shot results, to stand beside measured ones: mIoU in percent, ViT-B/16, no post-processing.

Sources: SCLIP (ECCV 2024), which reports CLIP and MaskCLIP too; ClearCLIP as FreeCP (ICCV 2025) reports it; DeCLIP
(CVPR 2025), Table 6, with DINOv2 as teacher. All as public summaries of these papers give them.
"""

from collections.abc import Sequence

from declip.evaluation.zero_shot.protocol import DATASETS

PUBLISHED = {
    "CLIP": (18.8, 9.9, 8.1, 49.4, 6.5, 11.1, 3.1, 5.7),
    "MaskCLIP": (43.4, 23.2, 20.6, 74.9, 24.9, 26.4, 11.9, 16.7),
    "SCLIP": (59.1, 30.4, 30.5, 80.4, 32.2, 34.2, 16.1, 22.4),
    "ClearCLIP": (51.8, 32.6, 33.0, 80.9, 30.0, 35.9, 16.7, 23.9),
    "DeCLIP": (None, None, None, None, None, 39.2, 21.9, None),
}
"""In the order of :data:`DATASETS`; None: not known here."""


def published_rows(dataset_names: Sequence[str]) -> list[list[str | float | None]]:
    """Rows of a table: a title, mIoU of each dataset, and the mean where all are known.

    None where a value is unknown; no row where all are.

    Args:
        dataset_names: as registered.
    """
    rows: list[list[str | float | None]] = []
    for title, values in PUBLISHED.items():
        known = dict(zip(DATASETS.values(), values, strict=True))
        row = [known.get(name) for name in dataset_names]
        found = [value for value in row if value is not None]
        if found:
            rows.append([f"published: {title}", *row, sum(found) / len(row) if len(found) == len(row) else None])
    return rows
