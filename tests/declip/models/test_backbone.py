import pytest
import torch
import torch.nn.functional as F

import declip
from d2host import BACKBONE_REGISTRY, CfgNode, build_backbone, get_cfg
from d2host.engine.errors import ConfigError
from declip.models.backbone import DenseCLIPBackbone, add_backbone_config
from declip.models.finetuning import FinetunePolicy, apply_finetuning

IMAGES = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def build(policy=FinetunePolicy.FROZEN, context="qk", **options):
    encoder = declip.build_encoder("nano", "nano-clip", context=context)
    apply_finetuning(encoder, policy)
    return DenseCLIPBackbone(encoder=encoder, **options)


def test_maps_have_the_names_channels_and_strides_that_are_said():
    backbone = build(out_features=("block1", "dense", "block4"))
    maps, shapes = backbone(IMAGES), backbone.output_shape()
    assert list(maps) == list(shapes) == ["block1", "dense", "block4"]
    assert all(maps[name].shape == (2, shapes[name].channels, 4, 6) for name in maps)
    assert backbone.size_divisibility == 8 and {shape.stride for shape in shapes.values()} == {8}


def test_maps_are_the_encoders():
    backbone = build(out_features=("block1", "dense"))
    features = backbone.encoder.encode_dense(IMAGES, (1,))
    maps = backbone(IMAGES)
    torch.testing.assert_close(maps["dense"], features.content, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(maps["block1"], features.hidden[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [4, 16, 32])
def test_another_stride_is_that_of_the_resized_image(stride):
    backbone = build(stride=stride)
    side = (32 // stride * 8, 64 // stride * 8)
    images = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(2))
    resized = F.interpolate(images, side, mode="bilinear", antialias=stride > 8)
    torch.testing.assert_close(backbone(images)["dense"], backbone.encoder.encode_dense(resized).content)
    assert backbone.output_shape()["dense"].stride == backbone.size_divisibility == stride


def test_a_patch_that_is_no_power_of_two_gets_the_next_as_stride(small_encoder):
    encoder = small_encoder("eva01", patch_size=14)
    apply_finetuning(encoder, FinetunePolicy.FROZEN)
    backbone = DenseCLIPBackbone(encoder=encoder)
    assert encoder.patch_size == 14 and backbone.stride == 16
    resized = F.interpolate(IMAGES, (28, 42), mode="bilinear", antialias=True)
    torch.testing.assert_close(backbone(IMAGES)["dense"], encoder.encode_dense(resized).content, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("outs", [("dense",), ("block2",), ("block2", "dense"), ("block0", "block4")])
@pytest.mark.parametrize("policy", [FinetunePolicy.ATTENTION, FinetunePolicy.FULL])
def test_every_parameter_that_trains_gets_a_gradient(policy, outs):
    backbone = build(policy, out_features=outs).train()
    sum(feature.square().sum() for feature in backbone(IMAGES).values()).backward()
    training = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    assert training and all(parameter.grad is not None for parameter in training)
    assert not any(parameter.requires_grad for parameter in backbone.encoder.text_parameters())


def test_a_frozen_encoder_stays_in_evaluation_mode_and_gives_no_gradient():
    backbone = build().train()
    assert backbone.training and not backbone.encoder.training
    assert not backbone(IMAGES)["dense"].requires_grad


def config(**keys):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE = CfgNode({"NAME": "DenseCLIPBackbone"})
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [122.771, 116.746, 104.094], [68.501, 66.632, 70.323]
    cfg.MODEL.WEIGHTS = ""
    cfg.INPUT = CfgNode({"FORMAT": "RGB"})
    add_backbone_config(cfg)
    cfg.merge_from_list([each for pair in {"MODEL.ENCODER.NAME": "nano", **keys}.items() for each in pair])
    return cfg


def test_a_config_builds_it_by_the_hosts_registry():
    assert "DenseCLIPBackbone" in BACKBONE_REGISTRY
    keys = {"MODEL.ENCODER.WEIGHTS": "nano-clip", "MODEL.ENCODER.OUT_FEATURES": "['block3', 'dense']"}
    backbone = build_backbone(config(**keys))
    assert isinstance(backbone, DenseCLIPBackbone) and list(backbone.output_shape()) == ["block3", "dense"]
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({}, r"MODEL\.ENCODER\.WEIGHTS is empty: give"),
        ({"MODEL.PIXEL_MEAN": "[103.53, 116.28, 123.675]"}, r"PIXEL_MEAN is .*'nano' was trained with \[122\.771"),
        ({"MODEL.PIXEL_STD": "[1.0, 1.0, 1.0]"}, r"PIXEL_STD is .*'nano' was trained with \[68\.501"),
        ({"INPUT.FORMAT": "BGR"}, r"INPUT\.FORMAT is BGR, but 'nano' takes RGB"),
        ({"MODEL.ENCODER.FINETUNE": "some"}, r"FINETUNE is 'some': it must be"),
        ({"MODEL.ENCODER.OUT_FEATURES": "['res4']"}, r"'nano' has no feature map 'res4': choose dense, block0"),
        ({"MODEL.ENCODER.OUT_FEATURES": "['block6']"}, r"'nano' has no block 6: choose blocks from 0 to 5"),
        ({"MODEL.ENCODER.OUT_FEATURES": "[]"}, r"OUT_FEATURES is \[\]: it must be a list of at least 1"),
        ({"MODEL.ENCODER.STRIDE": "-8"}, r"STRIDE is -8: it must be an integer from 0"),
    ],
)
def test_what_cannot_be_is_refused(keys, sentence):
    weights = {"MODEL.ENCODER.WEIGHTS": "nano-clip"} if keys else {}
    with pytest.raises(ConfigError, match=sentence):
        build_backbone(config(**weights, **keys))


def test_images_of_other_sides_are_refused():
    with pytest.raises(ConfigError, match=r"30x48 pixels do not divide into features 8 pixels apart"):
        build()(torch.zeros(1, 3, 30, 48))
