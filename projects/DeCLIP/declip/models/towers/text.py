"""The text tower: open_clip's transformer, run only as far as the prompts reach.

Shape legend
    N  prompts        L  tokens        D  width of the tower        E  width of the shared image-text space

In a causal tower pooled at the end-of-text token, nothing after that token can influence the result. Cutting the
batch behind its longest prompt is therefore exact, and a class prompt has about 10 of the 77 tokens.
"""

from torch import Tensor, nn

from declip.models.towers.residual import run_residual_block


class TextTower:
    """open_clip's text transformer, wherever the model keeps it.

    Args:
        text: the module with ``transformer``, ``token_embedding``, ``positional_embedding``, ``ln_final`` and
            ``text_projection`` (an open_clip ``CLIP`` itself, or the ``text`` of a ``CustomTextCLIP``).

    Attributes:
        freeze_keys: whether gradients stop at the key rows of the attention's shared projections.
    """

    freeze_keys: bool = False

    def __init__(self, text: nn.Module) -> None:
        self.text = text
        self.pool_type = text.text_pool_type if hasattr(text, "text_pool_type") else text.pool_type
        self.causal = text.attn_mask is not None

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last."""
        return self.text.transformer.resblocks

    def encode(self, tokens: Tensor) -> Tensor:
        """Token ids N×L → embeddings N×E, not normalised.

        The end of text is the highest id of a prompt where the tower pools by ``argmax``.
        """
        text = self.text
        ends = tokens.argmax(dim=-1)
        if self.causal and self.pool_type == "argmax":
            tokens = tokens[:, : int(ends.max()) + 1]
        x = text.token_embedding(tokens)
        x = x + text.positional_embedding[: tokens.shape[1]].to(x.dtype)
        for block in self.blocks:
            x = run_residual_block(block, x, self.causal, self.freeze_keys)
        pooled = self._pool(text.ln_final(x), ends)
        if isinstance(text.text_projection, nn.Linear):
            return text.text_projection(pooled)
        return pooled @ text.text_projection

    def _pool(self, x: Tensor, ends: Tensor) -> Tensor:
        match self.pool_type:
            case "argmax":
                return x[range(len(x)), ends]
            case "last":
                return x[:, -1]
            case "first":
                return x[:, 0]
        raise ValueError(f"text pooling '{self.pool_type}' is not one of argmax, last, first")
