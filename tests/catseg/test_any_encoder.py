"""CAT-Seg over encoders of every family: widths, grid, patch size and statistics follow from the encoder."""

import pytest
import torch

from catseg.config import get_catseg_cfg
from catseg.modeling import meta_arch
from d2host import build_model

SMALL_HEAD = (
    *("MODEL.DEVICE", "cpu", "MODEL.ENCODER.WEIGHTS", "random", "MODEL.ENCODER.GRID", 4, "MODEL.TEXT.PROMPTS", "name"),
    *("MODEL.SEM_SEG_HEAD.HIDDEN_DIM", 8, "MODEL.SEM_SEG_HEAD.NUM_LAYERS", 1, "MODEL.SEM_SEG_HEAD.NUM_HEADS", 2),
    *("MODEL.SEM_SEG_HEAD.WINDOW_SIZE", 2, "MODEL.SEM_SEG_HEAD.GUIDANCE_PROJECTED_DIMS", "(8, 8)"),
    *("MODEL.SEM_SEG_HEAD.DECODER_DIMS", "(8, 4)", "MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_DIMS", "(8, 8)"),
    *("MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_PROJECTED_DIMS", "(4, 2)"),
    *("TEST.SLIDING_WINDOW.SIZE", 96, "TEST.SLIDING_WINDOW.KERNEL", 64),
)


@pytest.fixture
def model(family, small_encoder, monkeypatch):
    def encoder(name, weights, context, attention_scale):
        made = small_encoder(family, text={"context_length": 8})
        made._tokenizer = lambda texts: torch.tensor([[1, 2 + len(text) % 9, 19, 0, 0, 0, 0, 0] for text in texts])
        return made

    monkeypatch.setattr(meta_arch, "build_encoder", encoder)
    torch.manual_seed(0)
    return build_model(get_catseg_cfg("declip_catseg_vitb.yaml", [str(each) for each in SMALL_HEAD]))


def test_a_training_iteration_and_an_evaluation(model):
    image = torch.randint(0, 256, (3, 96, 80), dtype=torch.uint8)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    loss = model.train()([{"image": image, "sem_seg": torch.randint(0, 171, (96, 80))}])["loss_sem_seg"]
    loss.backward()
    optimizer.step()
    tower = [parameter.grad for parameter in model.encoder.clip.visual.parameters() if parameter.requires_grad]
    assert loss.isfinite() and any(gradient is not None and gradient.abs().sum() > 0 for gradient in tower)
    model.eval().set_vocabulary(["cat", "house", "a tree"])
    scores = model([{"image": image, "height": 48, "width": 40}])[0]["sem_seg"]
    assert scores.shape == (3, 48, 40) and scores.isfinite().all()
