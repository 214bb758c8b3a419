import pytest
import torch

from catseg.config import get_catseg_cfg
from catseg.modeling.inference import resize
from catseg.modeling.meta_arch import guidance_blocks
from catseg.modeling.reference import dense_binary_cross_entropy
from d2host import build_model
from d2host.engine.errors import ConfigError, DataError
from declip.models.factory import build_encoder


def build(*opts):
    torch.manual_seed(0)
    return build_model(get_catseg_cfg("declip_catseg_nano.yaml", ["MODEL.DEVICE", "cpu", *opts]))


def training_batch(count=2, size=128):
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator),
            "sem_seg": torch.randint(0, 42, (size, size), generator=generator),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize(("depth_of", "expected"), [("nano", (1, 3))])
def test_guidance_comes_from_the_ends_of_the_first_two_thirds(depth_of, expected):
    assert guidance_blocks(build_encoder(depth_of, "random")) == expected


def test_guidance_blocks_of_the_published_depths():
    class Depth:
        def __init__(self, num_blocks):
            self.num_blocks = num_blocks

    assert guidance_blocks(Depth(12)) == (3, 7) and guidance_blocks(Depth(24)) == (7, 15)
    assert guidance_blocks(Depth(12), (1, 2)) == (1, 2)
    with pytest.raises(ConfigError, match="GUIDANCE_BLOCKS names 3 blocks"):
        guidance_blocks(Depth(12), (1, 2, 3))


def test_the_training_loss_is_the_dense_cross_entropy_of_the_logits():
    model, batch = build().train(), training_batch()
    loss = model(batch)["loss_sem_seg"]
    logits = model.logits(torch.stack([sample["image"].float() for sample in batch]), model.train_classes)
    labels = torch.stack([sample["sem_seg"] for sample in batch])
    torch.testing.assert_close(loss, dense_binary_cross_entropy(logits, labels, model.ignore_label))


def test_every_trained_parameter_gets_a_gradient():
    model = build("MODEL.ENCODER.FINETUNE", "full").train()
    model(training_batch())["loss_sem_seg"].backward()
    unused = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    last = "encoder.clip.visual.transformer.resblocks.5."
    assert unused == {"encoder.clip.logit_scale"} | {
        name for name, _ in model.named_parameters() if name.startswith((f"{last}mlp", f"{last}ln_2"))
    }


def test_a_frozen_encoder_stays_while_the_head_learns():
    model = build("MODEL.ENCODER.FINETUNE", "frozen").train()
    model(training_batch())["loss_sem_seg"].backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert model.sem_seg_head.upsample1.weight.grad is not None


def test_the_vocabulary_changes_without_a_new_model():
    model = build().eval()
    sample = {"image": training_batch(1)[0]["image"], "height": 50, "width": 70}
    for vocabulary in (["red circle", "grass"], ["wood", "sky", "blue ring"]):
        model.set_vocabulary(vocabulary)
        assert model([sample])[0]["sem_seg"].shape == (len(vocabulary), 50, 70)
    with pytest.raises(DataError, match="vocabulary is empty"):
        model.set_vocabulary([])


def test_labels_are_the_argmax_of_scores():
    model = build("TEST.SLIDING_WINDOW.ENABLED", "True").eval()
    batch = training_batch(1)
    assert torch.equal(model.predict_labels(batch)[0]["sem_seg"], model(batch)[0]["sem_seg"].argmax(dim=0))


def test_without_windows_the_image_is_seen_once_at_the_encoders_side():
    model = build().eval()
    image = training_batch(1, size=90)[0]["image"]
    with torch.no_grad():
        logits = model.logits(image[None].float(), model.vocabulary)
    torch.testing.assert_close(model([{"image": image}])[0]["sem_seg"], resize(logits.sigmoid(), (90, 90))[0])


def test_building_a_model_encodes_no_vocabulary(monkeypatch):
    monkeypatch.setattr("declip.models.encoder.DenseCLIP.encode_text", lambda *_, **__: pytest.fail("text is encoded"))
    build()


def test_random_encoder_weights_have_to_be_asked_for():
    with pytest.raises(ConfigError, match=r"MODEL\.ENCODER\.WEIGHTS is empty: give an open_clip tag of 'EVA02-B-16'"):
        build_model(get_catseg_cfg("declip_catseg_vitb.yaml", ["MODEL.DEVICE", "cpu"]))


def test_a_whole_model_needs_no_weights_of_its_encoder():
    assert build("MODEL.ENCODER.WEIGHTS", "", "MODEL.WEIGHTS", "model_final.pth").encoder.name == "nano"


def test_more_than_255_classes_work_end_to_end():
    model = build().eval()
    model.set_vocabulary([f"red thing number {chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(300)])
    assert model.predict_labels(training_batch(1))[0]["sem_seg"].shape == (128, 128)
    assert model(training_batch(1))[0]["sem_seg"].shape == (300, 128, 128)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "grid", "side"),
    [("declip_catseg_vitb.yaml", 24, 384), ("declip_catseg_vitl.yaml", 24, 336), ("catseg_clip_vitl.yaml", 24, 336)],
)
def test_dimensions_follow_from_the_encoder(config, grid, side):
    cfg = get_catseg_cfg(config, ["MODEL.DEVICE", "cpu", "MODEL.ENCODER.WEIGHTS", "random", "DATASETS.TRAIN", "()"])
    model = build_model(cfg).eval()
    assert (model.side, model.side // model.encoder.patch_size) == (side, grid)
    model.set_vocabulary(["cat", "dog"])
    assert model([{"image": torch.zeros(3, 40, 60)}])[0]["sem_seg"].shape == (2, 40, 60)


STITCHED = ("TEST.SLIDING_WINDOW.ENABLED", "True", "TEST.SLIDING_WINDOW.STITCH", "True")


def test_stitched_windows_see_the_whole_image_and_one_alone_is_the_plain_path():
    sample = training_batch(1, 96)[0] | {"height": 60, "width": 50}
    windows = {"one": ("192", "192", "0.0"), "several": ("320", "192", "0.333")}
    for name, (size, kernel, overlap) in windows.items():
        keys = ("TEST.SLIDING_WINDOW.SIZE", size, "TEST.SLIDING_WINDOW.KERNEL", kernel)
        keys += ("TEST.SLIDING_WINDOW.OVERLAP", overlap)
        stitched, plain = build(*STITCHED, *keys).eval(), build(*STITCHED[:2], *keys).eval()
        scores, expected = (model([sample])[0]["sem_seg"] for model in (stitched, plain))
        assert scores.shape == expected.shape and scores.isfinite().all()
        assert torch.allclose(scores, expected, atol=1e-4) == (name == "one")


def test_windows_between_patches_are_not_stitched():
    with pytest.raises(ConfigError, match=r"cannot be stitched: with 12 patches a window they begin every 8\.3"):
        build(
            *STITCHED,
            "TEST.SLIDING_WINDOW.SIZE",
            "320",
            "TEST.SLIDING_WINDOW.KERNEL",
            "192",
            "TEST.SLIDING_WINDOW.OVERLAP",
            "0.3",
        )


def test_stitched_windows_leave_no_guidance_from_the_last_block():
    more = ("MODEL.ENCODER.CONTEXT", "vanilla", "MODEL.ENCODER.GUIDANCE_BLOCKS", "(1, 5)")
    keys = ("TEST.SLIDING_WINDOW.SIZE", "320", "TEST.SLIDING_WINDOW.KERNEL", "192")
    with pytest.raises(ConfigError, match="GUIDANCE_BLOCKS names the last block"):
        build(*STITCHED, *keys, *more)
