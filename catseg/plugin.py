"""What CAT-Seg adds to DeCLIP: its models as segmenters, and their training."""

from pathlib import Path

from declip.plugins import Plugin


def _load_segmenter(config: Path, weights: Path, device: str):
    from catseg.segmenter import CATSegSegmenter

    return CATSegSegmenter.load(config, weights, device)


def _training():
    from catseg.trainer import TRAINING

    return TRAINING


PLUGIN = Plugin(segmenters={"CATSeg": _load_segmenter}, trainings={"CATSeg": _training})
