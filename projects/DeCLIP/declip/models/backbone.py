"""The encoder under any model of Detectron2: feature maps by name.

Shape legend
    B     images                       C  width of the shared image-text space
    h, w  input over stride            D  width of the image tower
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from d2host import BACKBONE_REGISTRY, Backbone, CfgNode, ShapeSpec, configurable
from d2host.engine.errors import ConfigError
from d2host.engine.keys import Choice, Integer, Key, Keys, Many, Text, check_keys, declare, group
from declip.keys import ENCODER_KEYS
from declip.models.encoder import DenseCLIP
from declip.models.factory import RANDOM, build_encoder, known_weights
from declip.models.finetuning import FinetunePolicy, apply_finetuning

DENSE, BLOCK = "dense", "block"  # block3: the output of block 3, from 0

KEYS: Keys = ENCODER_KEYS | group(
    "MODEL.ENCODER",
    FINETUNE=Key("frozen", Choice.of(FinetunePolicy), "what trains; attention: queries, values and positions"),
    OUT_FEATURES=Key(
        [DENSE], Many(Text(empty=False), distinct=True), "dense (the space of the texts), block0, block1, ..."
    ),
    STRIDE=Key(0, Integer(most=1024), "pixels between features; 0: the patch size, or the next power of two"),
)


def add_backbone_config(cfg: CfgNode) -> None:
    """Declare the keys of :class:`DenseCLIPBackbone` in a host's tree, in place."""
    declare(cfg, KEYS)


@BACKBONE_REGISTRY.register()
class DenseCLIPBackbone(Backbone):
    """A :class:`DenseCLIP` that gives feature maps by name: ``dense`` (B×C×h×w) and ``block<i>`` (B×D×h×w).

    All maps have one stride. Where it is not the patch size, images are resized before they are encoded, so that
    features lie exactly ``stride`` pixels apart: Detectron2's region poolers take powers of two alone, and a patch of
    14 pixels is none.

    Args:
        encoder: the encoder. Which of its parameters train is what :func:`apply_finetuning` chose, less those that
            none of the maps depends on.
        out_features: names of the maps.
        stride: pixels of the input between features; 0: the patch size where that is a power of two, else the next.

    Attributes:
        size_divisibility: the stride; sides of the input are multiples of it.

    Raises:
        ConfigError: a map does not exist under the encoder's context type, or none is named.

    >>> import declip
    >>> from declip.models.finetuning import FinetunePolicy, apply_finetuning
    >>> encoder = declip.build_encoder("nano", "nano-clip", context="qk")
    >>> apply_finetuning(encoder, FinetunePolicy.FROZEN)
    >>> backbone = DenseCLIPBackbone(encoder=encoder, out_features=("block3", "dense"), stride=16)
    >>> maps = backbone(encoder.normalize(torch.zeros(1, 3, 64, 96)))
    >>> {name: tuple(feature.shape) for name, feature in maps.items()}
    {'block3': (1, 128, 4, 6), 'dense': (1, 128, 4, 6)}
    """

    @configurable
    def __init__(self, *, encoder: DenseCLIP, out_features: Sequence[str] = (DENSE,), stride: int = 0) -> None:
        super().__init__()
        self.encoder, self.out_features = encoder, tuple(out_features)
        self.stride = stride or 1 << (encoder.patch_size - 1).bit_length()
        self.blocks = {name: self._index(name) for name in self.out_features if name != DENSE}
        if not self.out_features or stride < 0:
            raise ConfigError(
                f"a backbone of '{encoder.name}' needs a feature map ({DENSE}, {BLOCK}0, {BLOCK}1, ...) and a "
                f"stride of 0 or more, not {list(self.out_features)} and {stride}"
            )
        self._freeze_what_no_map_depends_on()

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict:
        """Constructor arguments from ``MODEL.ENCODER`` (see :func:`add_backbone_config`).

        Raises:
            ConfigError: a value is impossible, or ``MODEL.PIXEL_MEAN``, ``MODEL.PIXEL_STD`` or ``INPUT.FORMAT`` are not
                those of the encoder's images.
            CheckpointError: the weights cannot be had.
        """
        check_keys(cfg, KEYS)
        options = cfg.MODEL.ENCODER
        weights = options.WEIGHTS or (RANDOM if cfg.MODEL.WEIGHTS else "")  # a whole model brings its encoder's
        if not weights:
            raise ConfigError(f"MODEL.ENCODER.WEIGHTS is empty: give {known_weights(options.NAME)}")
        if not (options.WEIGHTS or (options.CONTEXT and options.ATTENTION_SCALE)):
            raise ConfigError(
                "MODEL.ENCODER.CONTEXT and ATTENTION_SCALE are to be given with the weights of a whole model, which do "
                "not say them"
            )
        encoder = build_encoder(options.NAME, weights, options.CONTEXT or None, options.ATTENTION_SCALE or None)
        apply_finetuning(encoder, FinetunePolicy(options.FINETUNE))
        for key, statistic in (("PIXEL_MEAN", encoder.pixel_mean), ("PIXEL_STD", encoder.pixel_std)):
            wanted = 255 * statistic.flatten()
            if not torch.allclose(torch.tensor(cfg.MODEL[key], dtype=torch.float32), wanted, atol=0.01):
                raise ConfigError(
                    f"MODEL.{key} is {list(cfg.MODEL[key])}, but '{options.NAME}' was trained with "
                    f"{[round(value, 3) for value in wanted.tolist()]}: set it to that"
                )
        if cfg.INPUT.FORMAT != "RGB":
            raise ConfigError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT}, but '{options.NAME}' takes RGB: set it to that")
        return {"encoder": encoder, "out_features": options.OUT_FEATURES, "stride": options.STRIDE}

    @property
    def size_divisibility(self) -> int:
        """Pixels that both sides of the input are a multiple of."""
        return self.stride

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every map."""
        channels = {DENSE: self.encoder.embed_dim}
        return {
            name: ShapeSpec(channels=channels.get(name, self.encoder.width), stride=self.stride)
            for name in self.out_features
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps of images.

        Args:
            images: B×3×H×W, normalised as the encoder's; H and W multiples of the stride.

        Raises:
            ConfigError: they are not.
        """
        height, width = (side // self.stride for side in images.shape[-2:])
        if images.shape[-2:] != (height * self.stride, width * self.stride):
            raise ConfigError(
                f"images of {images.shape[-2]}x{images.shape[-1]} pixels do not divide into features {self.stride} "
                "pixels apart: pad both sides to a multiple"
            )
        patch = self.encoder.patch_size
        if patch != self.stride:
            size, shrinks = (height * patch, width * patch), patch < self.stride
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=shrinks)
        trains = any(parameter.requires_grad for parameter in self.encoder.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and (trains or images.requires_grad)):
            features = self.encoder.encode_dense(images, tuple(self.blocks.values()))
        maps = {name: features.hidden[block] for name, block in self.blocks.items()} | {DENSE: features.content}
        return {name: maps[name] for name in self.out_features}

    def train(self, mode: bool = True) -> "DenseCLIPBackbone":
        """As usual, but a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.encoder.parameters()):
            self.encoder.eval()
        return self

    def _index(self, name: str) -> int:
        number, encoder = name.removeprefix(BLOCK), self.encoder
        if not name.startswith(BLOCK) or not number.isdecimal():
            raise ConfigError(f"'{encoder.name}' has no feature map '{name}': choose {DENSE}, {BLOCK}0, {BLOCK}1, ...")
        encoder.check_context(encoder.context, (int(number),))
        return int(number)

    def _freeze_what_no_map_depends_on(self) -> None:
        """Found by a backward pass from one patch: what waits in vain for a gradient stops distributed training."""
        training = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not training:
            return
        self.eval()
        pixels = torch.zeros(1, 3, self.stride, self.stride, device=self.encoder.pixel_mean.device)
        total = sum(feature.sum() for feature in self(pixels).values())
        for parameter, gradient in zip(training, torch.autograd.grad(total, training, allow_unused=True), strict=True):
            parameter.requires_grad_(gradient is not None)
        self.train()
