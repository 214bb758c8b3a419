"""The text tower: the library's own, run only as far as the prompts reach.

Shape legend
    N  prompts        L  tokens        E  width of the shared image-text space
"""

import torch
from torch import Tensor, nn

from d2host.engine.errors import DataError

CHUNK = 512  # prompts encoded at once


class TextTower:
    """A model's text tower, wherever the model keeps it.

    In a causal tower that is read at the end of the text, nothing after that token can influence the result. Cutting a
    batch behind its longest prompt is therefore exact, and a class prompt has about 10 of the 77 tokens. Other towers
    see all of them.

    Args:
        clip: an open_clip model.

    Attributes:
        text: the module with the embeddings: ``clip`` itself or its ``text``.
        cuts: whether prompts are cut.
    """

    def __init__(self, clip: nn.Module) -> None:
        self.clip = clip
        self.text = text = clip if hasattr(clip, "token_embedding") else clip.text
        pool_type = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", None)
        causal = getattr(text, "attn_mask", None) is not None and getattr(text, "cls_emb", None) is None
        self.cuts = causal and pool_type == "argmax" and text.text_projection is not None

    def encode(self, tokens: Tensor) -> Tensor:
        """Token ids N×L → embeddings N×E, not normalised; the end of a text is its highest id where prompts are cut.

        Raises:
            DataError: they are no token ids.
        """
        if tokens.dim() != 2 or not tokens.numel() or tokens.dtype not in (torch.int32, torch.int64):
            raise DataError(f"{tokens.dtype} of shape {tuple(tokens.shape)} are no token ids: give N×L integers")
        return torch.cat([self._encode(chunk) for chunk in tokens.split(CHUNK)])

    def _encode(self, tokens: Tensor) -> Tensor:
        if not self.cuts:
            return self.clip.encode_text(tokens, normalize=False)
        text, ends = self.text, tokens.argmax(dim=-1)
        length = int(ends.max()) + 1
        x = text.token_embedding(tokens[:, :length])
        x = x + text.positional_embedding[:length].to(x.dtype)
        x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))
        pooled = x[torch.arange(len(x), device=x.device), ends]
        projection = text.text_projection
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
