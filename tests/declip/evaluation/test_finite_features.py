"""An encoder that no longer gives numbers, or gives zeros: no evaluation makes a result of it."""

import numpy as np
import pytest
import torch
from PIL import Image

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.config import get_catseg_cfg
from catseg.segmenter import CATSegSegmenter
from d2host import build_model
from d2host.engine.errors import CheckpointError
from declip import build_encoder
from declip.data.region_sets import RegionImage, RegionSet
from declip.encoder_segmenter import EncoderSegmenter
from declip.evaluation import SemSegEvaluator, evaluate
from declip.evaluation.regions import RegionMethod, compare_regions
from declip.evaluation.zero_shot import Protocol
from declip.evaluation.zero_shot.run import ZeroShotOptions, evaluate_zero_shot
from declip.models.attention import ContextType
from declip.models.templates import Templates

NAME = "evaluation_test_images"
WHOLE = Protocol(short_side=0, window=0)
SPOILT = {
    "one NaN in the projection": lambda visual: visual.proj[3, 4].fill_(float("nan")),
    "infinity in a block": lambda visual: visual.transformer.resblocks[2].mlp.c_fc.bias.fill_(float("inf")),
    "a projection of zeros": lambda visual: visual.proj.fill_(0),
    "numbers too large": lambda visual: visual.proj.fill_(3e38),
}


@pytest.fixture(params=SPOILT)
def encoder(request):
    encoder = build_encoder("nano", "nano-declip").eval()
    with torch.no_grad():
        SPOILT[request.param](encoder.clip.visual)
    return encoder


@pytest.fixture
def image_file(tmp_path):
    path = tmp_path / "street.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
    return path


def region_set(path, boxes=((0, 0, 32, 32), (8, 8, 60, 40))):
    boxes = torch.tensor(boxes, dtype=torch.float32)
    image = RegionImage(str(path), boxes, torch.zeros(len(boxes), dtype=torch.long), torch.arange(len(boxes)))
    return RegionSet((image,), ("grass", "water"), (False, False))


def test_dense_evaluation_names_the_first_image(encoder, records, tmp_path):
    options = ZeroShotOptions(templates=Templates.NAME, num_workers=0)
    with pytest.raises(CheckpointError, match=r"features of .*0\.png are not finite"):
        evaluate_zero_shot(encoder, [ContextType.QK], {NAME: WHOLE}, tmp_path / "out", options)
    assert not list(tmp_path.rglob("results.*"))


@pytest.mark.parametrize("method", [RegionMethod.BOXES, RegionMethod.CROPS])
def test_region_evaluation_names_the_image(encoder, image_file, method):
    with pytest.raises(CheckpointError, match=r"features of regions of .*street\.png are not finite"):
        compare_regions(encoder, region_set(image_file), 64, contexts=(ContextType.QK,), methods=(method,))


def test_a_segmenter_names_the_image(encoder, image_file):
    segmenter = EncoderSegmenter(encoder, WHOLE, Templates.NAME)
    segmenter.set_classes(["grass", "water"])
    with pytest.raises(CheckpointError, match=r"features of .*street\.png are not finite"):
        segmenter.segment(image_file)
    with pytest.raises(CheckpointError, match=r"features of the image are not finite"):
        segmenter.segment(Image.open(image_file))


@pytest.fixture(scope="module")
def catseg_model():
    opts = ["MODEL.ENCODER.WEIGHTS", "nano-declip", "MODEL.DEVICE", "cpu"]
    return build_model(get_catseg_cfg("declip_catseg_nano.yaml", opts)).eval()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
@pytest.mark.parametrize("part", ["encoder.clip.visual.ln_post.bias", "sem_seg_head.upsample1.weight"])
def test_a_whole_model_that_gives_no_numbers_names_the_image(catseg_model, records, part, value):
    parameter = catseg_model.get_parameter(part)
    before = parameter.detach().clone()
    try:
        with torch.no_grad():
            parameter.fill_(value)
        catseg_model.set_vocabulary(["a", "b", "c", "d"])
        samples = [{**record, "image": torch.zeros(3, record["height"], record["width"])} for record in records]
        for predict in (catseg_model, catseg_model.predict_labels):
            with pytest.raises(CheckpointError, match=r"scores of .*0\.png are not finite"):
                predict(samples)
        segmenter = CATSegSegmenter(catseg_model, 64, 64)
        segmenter.set_classes(["grass", "water"])
        with pytest.raises(CheckpointError, match="are not finite"):
            segmenter.segment(np.zeros((48, 64, 3), np.uint8))
    finally:
        with torch.no_grad():
            parameter.copy_(before)


class Scores(torch.nn.Module):
    """A foreign model in Detectron2's way, whose scores hold one value that is none."""

    device = torch.device("cpu")

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, batch):
        scores = [torch.rand(4, sample["height"], sample["width"]) for sample in batch]
        for each in scores:
            each[1, 2, 3] = self.value
        return [{"sem_seg": each} for each in scores]


class Loader(list):
    sampler = range(3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_of_any_model_are_checked(records, value):
    loader = Loader([record] for record in records)
    with pytest.raises(CheckpointError, match=r"scores of .*0\.png are not finite"):
        evaluate(Scores(value), loader, SemSegEvaluator.of(NAME))


def test_precisions_too_narrow_are_told_from_wide_enough(image_file):
    encoder = build_encoder("nano", "nano-declip").eval()
    encoder.clip.visual.proj.data.mul_(1e6)
    options = {"contexts": (ContextType.QK,), "methods": (RegionMethod.BOXES,)}
    accuracy = compare_regions(encoder, region_set(image_file), 64, **options)
    assert next(iter(accuracy.values())).counts.sum() == 2
    with pytest.raises(CheckpointError, match="16 bits is too narrow"), torch.autocast("cpu", dtype=torch.float16):
        compare_regions(encoder, region_set(image_file), 64, **options)
