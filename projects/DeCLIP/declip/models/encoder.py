"""The decoupled CLIP encoder: an open_clip model whose last block yields dense features.

Shape legend
    B     images                       C  width of the shared image-text space (``embed_dim``)
    h, w  grid, input over patch size  D  width of the image tower

Source: DeCLIP (CVPR 2025), Sec. 3.1.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle

from d2host.engine.errors import ConfigError
from declip.contexts import AttentionScale, ContextType
from declip.models.attention import Context, decoupled_attention
from declip.models.features import DenseFeatures
from declip.models.templates import check_texts
from declip.models.towers import Tokens, select_tower


class DenseCLIP(nn.Module):
    """A CLIP whose image tower also gives one feature per patch.

    Args:
        clip: an open_clip model (``CLIP`` or ``CustomTextCLIP``) of a supported family.
        name: what messages and saved weights call it.
        tokenizer: texts → N×L int64 token ids.
        pixel_mean, pixel_std: of the image tower, RGB in [0, 1].
        context: how the last block attends.
        attention_scale: factor on its similarities.

    Attributes:
        patch_size, image_size: pixels; image_size is the native side.
        embed_dim: C. width: D. num_blocks: transformer blocks of the image tower.
        key_hooks: handles of the gradient hooks that keep keys as they are, see :mod:`declip.models.finetuning`.
        recompute: whether :meth:`encode_dense` recomputes blocks in the backward pass, for less memory and more time.
    """

    def __init__(
        self,
        clip: nn.Module,
        *,
        name: str,
        tokenizer,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        context: ContextType = ContextType.QK,
        attention_scale: AttentionScale = AttentionScale.SQRT_D,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.name = name
        self.context = context
        self.attention_scale = attention_scale
        self.recompute = False
        self.key_hooks: tuple[RemovableHandle, ...] = ()
        self.image_tower, self.text_tower = select_tower(clip, name)
        self._tokenizer = tokenizer
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), persistent=False)
        self.patch_size = self.image_tower.patch_size
        self.image_size = self.image_tower.image_size
        self.width = self.image_tower.width
        self.num_blocks = len(self.image_tower.blocks)
        self.embed_dim = self.image_tower.embed_dim
        self.check_context(context)

    def train(self, mode: bool = True) -> "DenseCLIP":
        """As usual, but batch norms (of convolutional stems) keep the statistics that they were trained with."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    @property
    def uses_quick_gelu(self) -> bool:
        """Whether the towers use OpenAI's approximation of GELU."""
        return any(isinstance(module, QuickGELU) for module in self.clip.modules())

    def normalize(self, images: Tensor) -> Tensor:
        """RGB images in 0..255 (integer or float), ...×3×H×W → what the image tower expects, floating point."""
        return (images.to(self.pixel_mean.dtype) / 255 - self.pixel_mean) / self.pixel_std

    def denormalize(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`: floating point in 0..255."""
        return 255 * (images * self.pixel_std + self.pixel_mean)

    def forward(self, images: Tensor, hidden_blocks: Sequence[int] = ()) -> DenseFeatures:
        """As :meth:`encode_dense`."""
        return self.encode_contexts(images, (self.context,), hidden_blocks)[self.context]

    def encode_dense(self, images: Tensor, hidden_blocks: Sequence[int] = ()) -> DenseFeatures:
        """One feature per patch, in the space of the text embeddings (Eq. 4-6).

        Args:
            images: B×3×H×W, normalised; H and W any multiples of the patch size.
            hidden_blocks: zero-based indices of blocks whose output is wanted; that of the last is attention alone,
                without residual and feed-forward half, unless the context type keeps them (``vanilla``, ``maskclip``,
                ``catseg``).

        Raises:
            ConfigError: a side is no multiple of the patch size, or a block does not exist.

        >>> import declip
        >>> encoder = declip.build_encoder("nano", "nano-clip", context="qk")
        >>> images = torch.randint(0, 256, (2, 3, 64, 96))
        >>> features = encoder.encode_dense(encoder.normalize(images), hidden_blocks=(3,))
        >>> features.content.shape, features.hidden[3].shape
        (torch.Size([2, 128, 8, 12]), torch.Size([2, 128, 8, 12]))
        """
        return self(images, hidden_blocks)

    def encode_contexts(
        self, images: Tensor, contexts: Sequence[ContextType | Context], hidden_blocks: Sequence[int] = ()
    ) -> dict[ContextType | Context, DenseFeatures]:
        """What :meth:`encode_dense` gives under each of several context types, or contexts from elsewhere.

        They differ in the last block alone, so the blocks before it run once. Stochastic depth of the tower acts in
        training; patch dropout does not, as every patch has to be there.

        Raises:
            ConfigError: as :meth:`encode_dense`, or the tower has no class token where a context type needs one.

        >>> import declip
        >>> from declip.contexts import ContextType
        >>> encoder = declip.build_encoder("nano", "nano-clip")
        >>> both = encoder.encode_contexts(torch.zeros(1, 3, 64, 64), [ContextType.QK, ContextType.VANILLA])
        >>> [len(features.context) for features in both.values()]
        [2, 0]
        """
        for context in contexts:
            self.check_context(context, hidden_blocks)
        tokens, hidden = self.run_blocks(images, hidden_blocks)
        features = {context: self.attend(tokens, context, images, hidden_blocks) for context in contexts}
        return {context: replace(found, hidden=hidden | found.hidden) for context, found in features.items()}

    def run_blocks(self, images: Tensor, hidden_blocks: Sequence[int] = ()) -> tuple[Tokens, dict[int, Tensor]]:
        """Tokens of images before the last block, and B×D×h×w output of each block up to there that is asked for."""
        grid, tower, hidden = self.grid(images), self.image_tower, {}
        tokens = tower.embed(images)
        for index in range(self.num_blocks - 1):
            if self.recompute and torch.is_grad_enabled():
                tokens = checkpoint(tower.run_block, index, tokens, use_reentrant=False)
            else:
                tokens = tower.run_block(index, tokens)
            if index in hidden_blocks:
                hidden[index] = self.as_map(tokens.x, grid)
        return tokens, hidden

    def attend(
        self, tokens: Tokens, context: ContextType | Context, images: Tensor, hidden_blocks: Sequence[int] = ()
    ) -> DenseFeatures:
        """What the last block makes of the tokens of images, see :meth:`run_blocks`, under a context."""
        grid, tower, last = self.grid(images), self.image_tower, self.num_blocks - 1
        prefix = tower.num_prefix_tokens
        if context is ContextType.VANILLA:
            x, projections, used = tower.run_block(last, tokens).x, (), ()
        else:
            projections = tower.last_projections(tokens.x)
            heads = [rearrange(each, "b l (h d) -> b h l d", h=tower.num_heads) for each in projections]
            if isinstance(context, Context):
                patches = (each[:, :, prefix:] for each in heads)
                attended, used = context(self.denormalize(images), grid, *patches), ()
                attended = F.pad(attended, (0, 0, prefix, 0))  # dropped with the prefix of any map
            else:
                attended, used = decoupled_attention(*heads, context, self.attention_scale), context.projections
            x = tower.last_output(rearrange(attended, "b h l d -> b l (h d)"))
            if not context.decoupled:
                x = tower.last_feed_forward(tokens.x[:, :1] if context is ContextType.CATSEG else tokens.x, x)
        own = {last: self.as_map(x, grid)} if last in hidden_blocks else {}
        context_features = tuple(projections[which][:, prefix:] for which in used)
        return DenseFeatures(self.as_map(tower.project(x), grid), context_features, own)

    def encode_image(self, images: Tensor) -> Tensor:
        """CLIP's own image embedding, B×3×H×W normalised → B×C, not L2-normalised; the last block is untouched.

        In training, the tower's patch dropout and stochastic depth act as in the library.

        Raises:
            ConfigError: a side is no multiple of the patch size.
        """
        self.grid(images)
        tower, tokens = self.image_tower, self.image_tower.embed(images, drop_patches=True)
        for index in range(self.num_blocks - 1):
            tokens = tower.run_block(index, tokens)
        return tower.pool(tower.run_block(self.num_blocks - 1, tokens, tower.pooled_tokens).x)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts → N×L int64 token ids, on the encoder's device.

        Raises:
            DataError: as :func:`declip.models.templates.check_texts`.
        """
        return self._tokenizer(check_texts(texts)).to(self.pixel_mean.device)

    def encode_text(self, texts: Sequence[str] | Tensor, normalize: bool = False) -> Tensor:
        """Text embeddings N×C in the space of the image features.

        Args:
            texts: N texts, or their token ids N×L as :meth:`tokenize` makes them.
            normalize: scale embeddings to unit length.

        Raises:
            DataError: as :func:`declip.models.templates.check_texts`, or what is given is no token ids.

        >>> import declip
        >>> encoder = declip.build_encoder("nano", "nano-clip")
        >>> encoder.encode_text(["a red ball", "grass"]).shape
        torch.Size([2, 128])
        """
        tokens = texts if isinstance(texts, Tensor) else self.tokenize(texts)
        embeddings = self.text_tower.encode(tokens)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def text_parameters(self) -> list[nn.Parameter]:
        """The parameters that text embeddings depend on."""
        image = {id(parameter) for parameter in self.clip.visual.parameters()}
        return [parameter for parameter in self.text_tower.text.parameters() if id(parameter) not in image]

    def as_map(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """B×L×K tokens → B×K×h×w, prefix dropped."""
        return rearrange(x[:, self.image_tower.num_prefix_tokens :], "b (h w) k -> b k h w", h=grid[0], w=grid[1])

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of images; a ConfigError where a side is no multiple of the patch size."""
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size or not height * width:
            raise ConfigError(
                f"images of {height}x{width} pixels do not divide into the {self.patch_size}-pixel patches of "
                f"'{self.name}': resize or pad both sides to multiples of {self.patch_size}"
            )
        return height // self.patch_size, width // self.patch_size

    def check_context(self, context: ContextType | Context, hidden_blocks: Sequence[int] = ()) -> None:
        """Refuse (ConfigError) a context that the tower cannot have, or blocks that it does not have."""
        if context is ContextType.CATSEG and not self.image_tower.num_prefix_tokens:
            raise ConfigError(
                f"context 'catseg' needs a class token, which '{self.name}' lacks: choose maskclip or another"
            )
        for index in sorted({*hidden_blocks} - {*range(self.num_blocks)}):
            raise ConfigError(f"'{self.name}' has no block {index}: choose blocks from 0 to {self.num_blocks - 1}")
