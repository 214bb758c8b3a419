"""Sliding windows that see the whole image: they meet in the last block.

The blocks before the last see window by window, at the size the encoder was trained on; a decoupled encoder differs
from CLIP in its last block alone. So the tokens that enter that block are laid on the image's grid, averaged where
windows overlap, and it attends over all of them.

Shape legend
    H, W  image, multiples of the patch size p        h, w  its grid of patches, H/p and W/p
    n     windows        g  patches along a window's side        D  width of the tower

Source: OV-Stitcher (arXiv 2604.08110).
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from d2host.engine.errors import ConfigError
from declip.models.attention import Context, ContextType
from declip.models.encoder import DenseCLIP
from declip.models.features import DenseFeatures
from declip.models.towers import Tokens
from declip.models.windows import WindowGrid


def encode_stitched(
    encoder: DenseCLIP,
    image: Tensor,
    window: int,
    stride: int,
    contexts: Sequence[ContextType | Context],
    windows_at_once: int = 16,
) -> dict[ContextType | Context, DenseFeatures]:
    """Dense features of an image under each of several contexts, by windows that meet in the last block.

    No map of all patches with all others is stored, so memory grows with the patches alone. One window, as large as
    the image, gives what :meth:`DenseCLIP.encode_contexts` does.

    Args:
        encoder: the encoder.
        image: 3×H×W, normalised.
        window, stride: pixels, multiples of the patch size; window 0: the whole image.
        contexts: what the last block attends by.
        windows_at_once: windows encoded together.

    Returns:
        Features of one image, ``content`` 1×C×h×w, without hidden ones.

    Raises:
        ConfigError: window, stride or a side are no multiples of the patch size, or a context is impossible.

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-clip")
    >>> found = encode_stitched(encoder, torch.rand(3, 128, 160), window=64, stride=32, contexts=[ContextType.QK])
    >>> found[ContextType.QK].content.shape
    torch.Size([1, 128, 16, 20])
    """
    patch = encoder.patch_size
    if window % patch or stride % patch:
        raise ConfigError(
            f"windows of {window} pixels every {stride} cannot be stitched with '{encoder.name}': both must be "
            f"multiples of its patch size, {patch}"
        )
    for context in contexts:
        encoder.check_context(context)
    height, width = encoder.grid(image[None])
    windows = WindowGrid.of(image.shape[-2:], window, stride).cut(image).split(windows_at_once)
    tokens = Tokens(torch.cat([encoder.run_blocks(some)[0].x for some in windows]))
    patches = WindowGrid.of((height, width), window // patch, stride // patch)
    whole = stitch(encoder, tokens, patches)
    return {context: encoder.attend(whole, context, image[None]) for context in contexts}


def stitch(encoder: DenseCLIP, tokens: Tokens, windows: WindowGrid) -> Tokens:
    """Tokens of one image from those of its windows: patches and class tokens that several windows have are averaged.

    Args:
        encoder: that made them.
        tokens: that enter its last block, n×(prefix + g*g)×D.
        windows: of the image's grid of patches.

    Returns:
        1×(prefix + h*w)×D.
    """
    tower, prefix = encoder.image_tower, encoder.image_tower.num_prefix_tokens
    grid = windows.rows.length, windows.columns.length
    maps = rearrange(tokens.x[:, prefix:], "n (g h) d -> n d g h", g=windows.rows.extent)
    patches = windows.average(maps).flatten(1).T
    x = torch.cat([tokens.x[:, :prefix].mean(dim=0), patches])[None]
    return Tokens(x, tower.rotary_embedding(grid, x.device))
