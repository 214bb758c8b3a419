"""The CAT-Seg head: encoder features and class embeddings in, logits per class out.

Shape legend
    B     images                     C  width of the shared image-text space
    h, w  token grid                 D  width of the image tower
    T     classes                    P  prompts per class
"""

from collections.abc import Sequence

from torch import Tensor, nn

from catseg.modeling.aggregator import Aggregator
from d2host import SEM_SEG_HEADS_REGISTRY, CfgNode, ShapeSpec, configurable
from declip.models.templates import Templates


@SEM_SEG_HEADS_REGISTRY.register()
class CATSegHead(nn.Module):
    """Up-convolved guidance of two encoder blocks and the :class:`Aggregator`.

    Args:
        aggregator: the cost aggregation; its guidance dimensions are those of ``guidance_dims``.
        guidance_width: D.
        guidance_dims: channels of the earlier block's features at twice, and the later's at four times the grid.
    """

    @configurable
    def __init__(self, *, aggregator: Aggregator, guidance_width: int, guidance_dims: tuple[int, int]) -> None:
        super().__init__()
        self.aggregator = aggregator
        self.upsample1 = nn.ConvTranspose2d(guidance_width, guidance_dims[0], kernel_size=2, stride=2)
        self.upsample2 = nn.ConvTranspose2d(guidance_width, guidance_dims[1], kernel_size=4, stride=4)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Constructor arguments; every width follows from ``input_shape`` (``content`` and ``hidden`` features)."""
        head = cfg.MODEL.SEM_SEG_HEAD
        guidance_dims = tuple(head.DECODER_GUIDANCE_DIMS)
        aggregator = Aggregator(
            embed_dim=input_shape["content"].channels,
            num_prompts=Templates(cfg.MODEL.TEXT.PROMPTS).num_prompts,
            hidden_dim=head.HIDDEN_DIM,
            num_layers=head.NUM_LAYERS,
            num_heads=head.NUM_HEADS,
            window_size=head.WINDOW_SIZE,
            pooling_size=tuple(head.POOLING_SIZE),
            padded_classes=head.PADDED_CLASSES,
            aggregate_all=head.AGGREGATE_ALL,
            guidance_dims=tuple(head.GUIDANCE_PROJECTED_DIMS),
            decoder_dims=tuple(head.DECODER_DIMS),
            decoder_guidance_dims=tuple(zip(guidance_dims, head.DECODER_GUIDANCE_PROJECTED_DIMS, strict=True)),
            token_chunk=None if head.TOKEN_CHUNK == "auto" else head.TOKEN_CHUNK,
            recompute=None if head.RECOMPUTE == "auto" else head.RECOMPUTE,
        )
        return {
            "aggregator": aggregator,
            "guidance_width": input_shape["hidden"].channels,
            "guidance_dims": guidance_dims,
        }

    def forward(
        self,
        image_features: Tensor,
        hidden: Sequence[Tensor],
        text_features: Tensor,
        kept: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Logits of every class.

        Args:
            image_features: B×C×h×w dense features of the encoder.
            hidden: two B×D×h×w outputs of encoder blocks, the earlier first.
            text_features: T×P×C class embeddings.
            kept: of each image, classes that are aggregated in any case, see :class:`Aggregator`.

        Returns:
            B×T×4h×4w.
        """
        earlier, later = hidden
        guidance = [self.upsample1(earlier), self.upsample2(later)]
        return self.aggregator(image_features, text_features, guidance, kept)
