import pytest
import torch

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.config import get_catseg_cfg
from catseg.export import SegmentationProgram
from d2host import build_model
from declip.export import export_program

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def test_a_program_with_a_vocabulary_computes_the_models_logits(tmp_path):
    torch.manual_seed(0)
    model = build_model(get_catseg_cfg("declip_catseg_nano.yaml", ["MODEL.DEVICE", "cpu"])).eval()
    classes = ["red ring", "grass", "sky"]
    program = SegmentationProgram(model, classes)
    assert export_program(program, model.side, tmp_path / "seg.pt2", dynamic_batch=False) < 1e-5
    image = torch.rand(1, 3, model.side, model.side) * 255
    with torch.no_grad():
        expected = model.logits(image, classes)
    torch.testing.assert_close(torch.export.load(tmp_path / "seg.pt2").module()(image), expected, rtol=1e-3, atol=1e-4)
