import pytest
import torch

from catseg.config import get_catseg_cfg
from catseg.modeling.aggregator import UNSELECTED_LOGIT
from catseg.modeling.inference import resize
from catseg.modeling.meta_arch import guidance_blocks
from catseg.modeling.reference import dense_binary_cross_entropy
from d2host import build_model
from d2host.engine.errors import ConfigError, DataError
from declip.contexts import ContextType
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
        context = ContextType.QK

        def __init__(self, num_blocks):
            self.num_blocks = num_blocks

    assert guidance_blocks(Depth(12)) == (3, 7) and guidance_blocks(Depth(24)) == (7, 15)
    assert guidance_blocks(Depth(12), (1, 2)) == (1, 2)
    for blocks in ((1, 11), (24, 3)):  # the last is taken apart
        with pytest.raises(ConfigError, match=r"GUIDANCE_BLOCKS is .*: blocks of .* that have features are 0 to 10"):
            guidance_blocks(Depth(12), blocks)


def test_a_model_is_built_of_a_checked_tree_alone():
    cfg = get_catseg_cfg("declip_catseg_nano.yaml", ["MODEL.DEVICE", "cpu"])
    cfg.MODEL.SEM_SEG_HEAD.NUM_LAYERS = -1
    with pytest.raises(ConfigError, match="NUM_LAYERS is -1: it must be an integer from 1 to 16"):
        build_model(cfg)


@pytest.mark.parametrize(
    ("key", "known"), [("MODEL.META_ARCHITECTURE", "CATSeg"), ("MODEL.SEM_SEG_HEAD.NAME", "CATSegHead")]
)
def test_models_that_are_not_registered_are_refused(key, known):
    with pytest.raises(ConfigError, match=f"{key} is 'Other', which is not registered: choose one of .*{known}"):
        build(key, "Other")


def test_the_training_loss_is_the_dense_cross_entropy_of_the_logits():
    model, batch = build().train(), training_batch()
    loss = model(batch)["loss_sem_seg"]
    logits = model.logits(torch.stack([sample["image"].float() for sample in batch]), model.train_classes)
    labels = torch.stack([sample["sem_seg"] for sample in batch])
    torch.testing.assert_close(loss, dense_binary_cross_entropy(logits, labels, model.ignore_label))


@pytest.mark.parametrize("padded", [4, 16, 41])
def test_classes_of_the_labels_are_taught_however_many_the_vocabulary_has(padded):
    """Those left out of the aggregation are not in the image, and add nothing to its loss."""
    model, batch = build("MODEL.SEM_SEG_HEAD.PADDED_CLASSES", str(padded)).train(), training_batch()
    for first, sample in zip((0, 30), batch, strict=True):
        sample["sem_seg"] = first + sample["sem_seg"] % 6
    seen = []
    model.sem_seg_head.register_forward_hook(lambda module, args, logits: seen.append(logits))
    loss = model(batch)["loss_sem_seg"]
    (logits,) = seen
    aggregated = (logits > UNSELECTED_LOGIT).flatten(2).any(dim=2)
    assert aggregated.sum(dim=1).tolist() == [max(padded, 6)] * 2
    assert aggregated[0, :6].all() and aggregated[1, 30:36].all()
    gradients = torch.autograd.grad(loss, logits)[0].flatten(2).abs().sum(dim=2)
    assert gradients[0, :6].gt(0).all() and gradients[1, 30:36].gt(0).all()
    chosen = logits.where(aggregated[..., None, None], -torch.inf)  # as of a class that is certain not to be there
    labels = torch.stack([sample["sem_seg"] for sample in batch])
    expected = dense_binary_cross_entropy(chosen.clamp(min=-1e4), labels, model.ignore_label)
    torch.testing.assert_close(loss, expected)


def test_labels_that_are_no_classes_are_refused_with_their_file():
    model, batch = build().train(), training_batch(1)
    batch[0] |= {"file_name": "street.png", "sem_seg": torch.full((128, 128), 65535)}
    with pytest.raises(DataError, match=r"labels of street\.png are 65535 to 65535, .* training classes 0 to 41"):
        model(batch)


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
    with pytest.raises(DataError, match="there are no classes of the vocabulary"):
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
    assert build().vocabulary


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
