import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from d2host import BitMasks, Boxes, Instances, build_model
from d2host.engine.errors import ConfigError, DataError
from declip.models.backbone import DenseCLIPBackbone
from declip.models.encoder import DenseCLIP
from declip.models.finetuning import FinetunePolicy, apply_finetuning
from fvit.config import get_fvit_cfg
from fvit.modeling import FViT
from fvit.modeling.box_head import BoxHead
from fvit.modeling.images import SquareImages
from fvit.modeling.proposals import ProposalNetwork
from fvit.modeling.pyramid import Pyramid, pyramid_strides
from fvit.modeling.regions import RegionSampler
from fvit.modeling.scores import Ensemble, Selection


@pytest.fixture
def build(options):
    def of(**more):
        torch.manual_seed(0)
        return build_model(get_fvit_cfg("fvit_nano.yaml", options(**more)))

    return of


def sample(labels=(0, 1), size=(64, 48), **more):
    """An image with objects in known places."""
    boxes = torch.tensor([[4.0, 4, 30, 30], [20, 30, 44, 60]])[: len(labels)]
    masks = torch.zeros(len(labels), *size, dtype=torch.bool)
    masks[:, 4:30, 4:30] = True
    objects = Instances(
        size, gt_boxes=Boxes(boxes), gt_classes=torch.tensor(labels, dtype=torch.long), gt_masks=BitMasks(masks)
    )
    return {"image": torch.randint(0, 256, (3, *size), dtype=torch.uint8), "instances": objects, **more}


def test_everything_but_the_encoder_learns(build):
    model = build(MODEL__MASK_ON=True, MODEL__RPN__NORM=True).train()
    losses = model([sample(), sample(labels=())])
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_cls", "loss_box_reg", "loss_mask"}
    sum(losses.values()).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    encoder = {name for name, _ in model.named_parameters() if name.startswith("backbone.")}
    assert without == encoder and not model.backbone.encoder.training


def test_a_batch_without_objects_has_losses_and_gradients(build):
    model = build(MODEL__MASK_ON=True).train()
    sum(model([sample(labels=())]).values()).backward()
    assert all(parameter.grad is not None for parameter in model.mask_head.parameters())


def test_detections_are_in_pixels_of_the_image_that_is_wanted(build):
    model = build(MODEL__MASK_ON=True).eval()
    inputs = sample()
    (small,), (large,) = model([inputs]), model([{**inputs, "height": 192, "width": 96}])
    small, large = small["instances"], large["instances"]
    assert len(small) == 20 and large.image_size == (192, 96) and large.pred_masks.shape == (20, 192, 96)
    assert (small.scores.diff() <= 0).all() and set(small.pred_classes.tolist()) <= set(range(4))
    best = large.pred_boxes.tensor / torch.tensor([2.0, 3, 2, 3])
    torch.testing.assert_close(best[:5], small.pred_boxes.tensor[:5], atol=1e-3, rtol=1e-3)


def test_an_image_is_detected_alike_alone_and_in_a_batch(build):
    model = build().eval()
    first, second = sample(), sample(size=(40, 64))
    (alone,), (batched, _) = model([first]), model([first, second])
    torch.testing.assert_close(alone["instances"].scores, batched["instances"].scores, atol=1e-5, rtol=1e-4)


def test_a_vocabulary_is_changed_without_rebuilding(build):
    model, inputs = build().eval(), sample()
    model.set_vocabulary(["yellow square", "red ring"])
    (found,) = model([inputs])
    assert set(found["instances"].pred_classes.tolist()) <= {0, 1}


def test_classes_that_training_did_not_teach_are_novel(build):
    """With all weight on CLIP for novel classes alone, their scores no longer depend on the box head."""
    model, inputs = build(TEST__ENSEMBLE__ALPHA=0.0, TEST__ENSEMBLE__BETA=1.0).eval(), sample()
    model.set_vocabulary(["cat", "red ring"])
    (before,) = model([inputs])
    with torch.no_grad():
        model.box_head.name[0].weight.mul_(-1)
    (after,) = model([inputs])
    of_cats = [found["instances"].scores[found["instances"].pred_classes == 0] for found in (before, after)]
    torch.testing.assert_close(of_cats[0][:5], of_cats[1][:5])


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ((0, 2), r"of a\.png name the novel class 'cat', which training must not see"),
        ((0, 4), r"of a\.png name class 4, but there are 4 training classes"),
        ((-1, 0), r"of a\.png name class -1"),
    ],
)
def test_labels_that_cannot_be_are_refused(build, labels, sentence):
    with pytest.raises(DataError, match=sentence):
        build().train()([sample(labels, file_name="a.png")])


def test_images_larger_than_the_square_are_refused(build):
    with pytest.raises(DataError, match=r"\(96, 48\) pixels is larger than the square of 64 \(INPUT\.IMAGE_SIZE\)"):
        build().eval()([sample(size=(96, 48))])


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"INPUT.IMAGE_SIZE": 72}, r"IMAGE_SIZE is 72: it must be a multiple of 16, two patches of 'nano'"),
        ({"MODEL.ENCODER.BLOCKS": (1, 2, 3, 6)}, "'nano' has no block 6"),
        ({"MODEL.ENCODER.WEIGHTS": ""}, r"MODEL\.ENCODER\.WEIGHTS is empty: give"),
        ({"DATASETS.TRAIN": ()}, r"DATASETS\.TRAIN names no dataset"),
    ],
)
def test_what_cannot_be_built_is_refused(build, keys, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(**keys)


def test_maps_of_14_pixel_patches_are_pooled_where_they_are():
    torch.manual_seed(0)
    vision = CLIPVisionCfg(image_size=56, patch_size=14, width=48, layers=4, head_width=16)
    clip = CLIP(24, vision, CLIPTextCfg(context_length=8, vocab_size=20, width=32, heads=2, layers=1))
    encoder = DenseCLIP(clip, name="small", tokenizer=None, pixel_mean=(0.5,) * 3, pixel_std=(0.5,) * 3).eval()
    apply_finetuning(encoder, FinetunePolicy.FROZEN)
    maps = ("block0", "block1", "block2", "block3", "dense")
    model = FViT(
        images=SquareImages(pixel_mean=(127.0,) * 3, pixel_std=(60.0,) * 3, side=112),
        backbone=DenseCLIPBackbone(encoder=encoder, out_features=maps, stride=14),
        pyramid=Pyramid(encoder.width, 8),
        proposals=ProposalNetwork(pyramid_strides(14), 8, proposals=30),
        box_head=BoxHead(8, 7, encoder.embed_dim, convs=1),
        mask_head=None,
        texts=lambda encoder, names: F.normalize(torch.ones(len(names), 24), dim=1),
        classes=["cat", "dog"],
        sampler=RegionSampler(),
        background_weight=0.6,
        ensemble=Ensemble(),
        select=Selection(threshold=0.0),
    ).eval()
    image = torch.randint(0, 256, (3, 112, 70))
    images, pyramid, dense = model.encode([{"image": image}])
    assert images.tensors.shape == (1, 3, 112, 112) and images.image_sizes == [(112, 70)]
    assert [each.shape[-1] for each in pyramid] == [32, 16, 8, 4, 2] and dense.shape[-2:] == (8, 8)
    (found,) = model([{"image": image}])
    boxes = found["instances"].pred_boxes.tensor
    assert len(boxes) and (boxes >= 0).all() and boxes[:, 2].max() <= 70 and boxes[:, 3].max() <= 112
