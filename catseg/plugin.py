"""What CAT-Seg adds to DeCLIP: its models as segmenters."""

from pathlib import Path

from declip.plugins import Plugin


def _load_segmenter(config: Path, weights: Path, device: str):
    from catseg.segmenter import CATSegSegmenter

    return CATSegSegmenter.load(config, weights, device)


PLUGIN = Plugin(segmenters={"CATSeg": _load_segmenter})
