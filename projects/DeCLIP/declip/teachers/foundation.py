"""Vision foundation models as teachers of the context feature, by one uniform call.

Shape legend
    B     images                      E  channels of the teacher
    h, w  grid, input over patch size
"""

import difflib

import timm
import torch
from einops import rearrange
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn

from d2host.engine.errors import CheckpointError, ConfigError, in_brief
from d2host.engine.precision import Precision
from d2host.engine.tensors import check_state_dict
from declip.plugins import from_plugins
from declip.teachers.base import FrozenTeacher, Views
from declip.teachers.targets import Features
from declip.weights.files import read_state_dict

TEACHERS = {
    "dinov2_vits14": "vit_small_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitb14": "vit_base_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitl14": "vit_large_patch14_reg4_dinov2.lvd142m",
    "dinov2_vits14_noreg": "vit_small_patch14_dinov2.lvd142m",  # without registers
    "dinov2_vitb14_noreg": "vit_base_patch14_dinov2.lvd142m",
    "dinov2_vitl14_noreg": "vit_large_patch14_dinov2.lvd142m",
    "dinov3_vits16": "vit_small_patch16_dinov3.lvd1689m",
    "dinov3_vitb16": "vit_base_patch16_dinov3.lvd1689m",
    "dinov3_vitl16": "vit_large_patch16_dinov3.lvd1689m",
    "dino_vitb8": "vit_base_patch8_224.dino",
    "dino_vitb16": "vit_base_patch16_224.dino",
    "sam_vitb": "samvit_base_patch16.sa1b",
    "sam_vitl": "samvit_large_patch16.sa1b",
}
PRETRAINED, RANDOM = "pretrained", "random"


class FoundationTeacher(FrozenTeacher):
    """A frozen vision transformer of timm that gives one feature per patch.

    Args:
        name: of :data:`TEACHERS`, ``nano-vfm``, or any timm vision transformer.
        weights: ``pretrained`` (downloaded by timm; ``nano-vfm`` is shipped), ``random``, or a weight file's path.
        precision: of its weights and its forward pass.
        layer: the block whose output, after the final norm, is the feature: from 0, or from -1 backwards. Blocks behind
            it do not exist. The best one for what patches mean is often not the last.

    Attributes:
        patch_size: pixels per token. pixel_mean, pixel_std: 3×1×1, RGB in [0, 1].

    Raises:
        ConfigError: the model is unknown, no vision transformer, lacks the layer, or its weights cannot be had.
        CheckpointError: the weight file is of another model.

    >>> teacher = FoundationTeacher("nano-vfm")
    >>> teacher(teacher.normalize(torch.rand(1, 3, 64, 96) * 255)).shape
    torch.Size([1, 96, 8, 12])
    """

    gives = Features

    def __init__(
        self, name: str, weights: str = PRETRAINED, precision: Precision = Precision.FP32, layer: int = -1
    ) -> None:
        super().__init__()
        self.name, self.precision = name, precision
        self.model = _create(name, weights).to(precision.dtype)
        depth = len(self.model.blocks)
        if not -depth <= layer < depth:
            raise ConfigError(
                f"teacher '{name}' has no layer {layer}: choose one of its {depth} blocks, 0 to {depth - 1}"
            )
        if layer % depth < depth - 1:
            if isinstance(self.model, VisionTransformerSAM):
                raise ConfigError(f"teacher '{name}' has a neck behind its blocks: its layer is the last, -1")
            self.model.prune_intermediate_layers([layer % depth])
        self.requires_grad_(False).eval()
        size = self.model.patch_embed.patch_size
        self.patch_size = size[0] if isinstance(size, tuple) else size
        statistics = self.model.pretrained_cfg
        self.register_buffer("pixel_mean", torch.tensor(statistics["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(statistics["std"]).view(3, 1, 1), persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """Images in 0..255 → what the model was trained on."""
        return (images / 255 - self.pixel_mean) / self.pixel_std

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features of every patch.

        Args:
            images: B×3×H×W, normalised; H and W multiples of the patch size.

        Returns:
            B×E×h×w in float32.
        """
        with torch.autocast(images.device.type, enabled=False):
            features = self.model.forward_features(images.to(self.precision.dtype))
        if features.dim() == 4:  # SAM: the neck's output, a map already
            return features.float()
        patches = features[:, self.model.num_prefix_tokens :]
        return rearrange(patches, "b (h w) c -> b c h w", h=images.shape[-2] // self.patch_size).float()

    def teach(self, views: Views) -> Features:
        """Features of every patch of images."""
        return Features(self(self.normalize(views.foundation)))


def _create(name: str, weights: str) -> nn.Module:
    added = from_plugins("teachers")
    if name in added:
        return added[name](weights)
    model_name = TEACHERS.get(name, name)
    if not timm.is_model(model_name.split(".")[0]):
        if name in TEACHERS:
            raise ConfigError(f"teacher '{name}' needs a newer timm than {timm.__version__}: pip install -U timm")
        close = difflib.get_close_matches(name, [*TEACHERS, *timm.list_models("*vit*")], n=4, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise ConfigError(
            f"teacher '{name}' is unknown: {hint}Known are {', '.join((*TEACHERS, *added))} and timm's ViTs"
        )
    options: dict = {} if model_name.startswith("samvit") else {"dynamic_img_size": True}
    from_file = weights not in (PRETRAINED, RANDOM)
    if from_file:  # timm translates the layouts that the teachers' authors published
        options["pretrained_cfg_overlay"] = {"state_dict": read_state_dict(weights)}
    try:
        model = timm.create_model(model_name, pretrained=weights != RANDOM, num_classes=0, **options)
    except TypeError as error:
        raise ConfigError(f"teacher '{name}' is no vision transformer of timm: choose one ({error})") from error
    except Exception as error:  # whatever the library meets in the network or in the file
        if from_file:
            raise CheckpointError(f"{weights} is not of teacher '{name}': {in_brief(error)}") from error
        raise ConfigError(
            f"weights of teacher '{name}' could not be downloaded ({in_brief(error)}): check the network, or download "
            "the file by hand and give its path"
        ) from error
    if weights != RANDOM:
        check_state_dict(model.state_dict(), f"the file of '{weights}' weights of teacher '{name}'")
    return model
