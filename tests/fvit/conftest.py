"""A detector that trains within seconds, and a dataset for it."""

import pytest

from d2host import DatasetCatalog, MetadataCatalog

NAMES = ["red ring", "blue star", "cat", "green cross"]


@pytest.fixture(scope="session")
def toy():
    """A registered dataset without images, one of whose four classes is novel."""
    if "toy_det" not in DatasetCatalog.list():
        DatasetCatalog.register("toy_det", lambda: [])
        MetadataCatalog.get("toy_det").set(thing_classes=NAMES, novel_classes=[2])
    return "toy_det"


@pytest.fixture
def options(toy):
    """Overrides of a config for a detector on nano-DeCLIP that is small."""

    def of(**more):
        values = {
            "MODEL.DEVICE": "cpu",
            "MODEL.TEXT.CACHE": "",
            "MODEL.FPN.OUT_CHANNELS": 16,
            "MODEL.RPN.POST_NMS_TOPK": 40,
            "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
            "DATASETS.TRAIN": (toy,),
            "INPUT.IMAGE_SIZE": 64,
            "TEST.SCORE_THRESH": 0.0,
            "TEST.DETECTIONS_PER_IMAGE": 20,
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        return [text for key, value in values.items() for text in (key, str(value))]

    return of
