"""The student: what of it trains, and what it becomes beside what it was.

Towers name the same parts differently: those of open_clip's own ViT stand first below, those of timm's after them.
"""

import copy
from collections.abc import Collection

import torch

from declip.losses import StudentFeature
from declip.models.attention import ContextType
from declip.models.encoder import DenseCLIP

# parts of clip.visual behind the blocks: final norm, pool, projection
BEHIND_BLOCKS = ("ln_post.", "proj", "attn_pool.", "trunk.norm.", "trunk.fc_norm.", "trunk.attn_pool.", "trunk.head.")
BEHIND_BLOCKS += ("head.",)
# a token that passes the pool alone has weight 1, whatever is asked of it
POOL_QUERY = ("attn_pool.query", "attn_pool.ln_q.", "attn_pool.attn.q_proj_weight", "attn_pool.attn.k_proj_weight")
POOL_QUERY += ("trunk.attn_pool.latent", "trunk.attn_pool.q.")
# parts of a block
FEED_FORWARD = ("ln_2.", "mlp.", "ls_2.", "norm2.", "ls2.", "gamma_2")
QUERY_KEY_VALUE = (("attn.q_proj.", "attn.q_bias"), ("attn.k_proj.",), ("attn.v_proj.", "attn.v_bias"))  # not shared
BEFORE_ATTENTION = ("ln_1.", "attn.in_proj_", "norm1.", "attn.qkv.")  # all that context features depend on


def trainable_names(student: DenseCLIP, features: Collection[StudentFeature], last_n_blocks: int = 0) -> set[str]:
    """Names (of ``student.named_parameters()``) of what distillation trains.

    All of it belongs to the image tower: its last blocks (Table 8), the embeddings before them where all blocks
    train, and the final norm and projection behind them, where the content feature learns. Of the last block, only
    what the features depend on trains: a decoupled one has no feed-forward half, and uses those of queries, keys and
    values that its context type names. A tensor that the three share trains whole.

    Args:
        features: of the student that learn.
        last_n_blocks: blocks that train, from the last; 0: all blocks and the embeddings.

    Raises:
        ValueError: there are fewer blocks.

    >>> from declip import build_encoder
    >>> names = trainable_names(build_encoder("nano", "nano-clip"), set(StudentFeature), last_n_blocks=1)
    >>> sorted(name.removeprefix("clip.visual.") for name in names if "resblocks" not in name)
    ['ln_post.bias', 'ln_post.weight', 'proj']
    """
    if not 0 <= last_n_blocks <= student.num_blocks:
        raise ValueError(f"last_n_blocks is {last_n_blocks}: '{student.name}' has {student.num_blocks} blocks")
    content, context = StudentFeature.CONTENT in features, student.context
    used = {0, 1, 2} if context is ContextType.VANILLA else {*context.projections, *({2} if content else ())}
    visual, first = student.clip.visual, student.num_blocks - last_n_blocks if last_n_blocks else 0
    prefixes = {module: f"{name}." for name, module in visual.named_modules()}
    *blocks, last = (prefixes[block] for block in student.image_tower.blocks)
    names = set()
    for name, _ in visual.named_parameters():
        if name.startswith(last):
            part = name.removeprefix(last)
            if part.startswith(sum(QUERY_KEY_VALUE, ())):
                trains = any(part.startswith(QUERY_KEY_VALUE[which]) for which in used)
            elif part.startswith(FEED_FORWARD):
                trains = content and not context.decoupled
            elif part.startswith("norm1.") and not student.image_tower.norms_first:
                trains = content
            else:
                trains = content or part.startswith(BEFORE_ATTENTION)
        elif name.startswith(tuple(blocks)):
            trains = not name.startswith(tuple(blocks[:first]))
        elif name.startswith(BEHIND_BLOCKS):
            trains = content and not name.startswith(POOL_QUERY)
        else:  # embeddings
            trains = not last_n_blocks
        if trains:
            names.add(f"clip.visual.{name}")
    return names


def choose_trainable(student: DenseCLIP, features: Collection[StudentFeature], last_n_blocks: int = 0) -> None:
    """Let what :func:`trainable_names` names train, and nothing else of the student.

    Raises:
        ValueError: there are fewer blocks.
    """
    names = trainable_names(student, features, last_n_blocks)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(name in names)


def frozen_copy(student: DenseCLIP) -> DenseCLIP:
    """The student as it is, to stay so; the text tower, which does not train, is shared."""
    copied = copy.deepcopy(student, memo={id(parameter): parameter for parameter in student.text_parameters()})
    return copied.requires_grad_(False).eval()


@torch.no_grad()
def interpolate(student: DenseCLIP, original: DenseCLIP, alpha: float) -> DenseCLIP:
    """An encoder of the weights ``alpha * student + (1 - alpha) * original``; the text tower is shared.

    >>> from declip import build_encoder
    >>> student, original = (build_encoder("nano", weights) for weights in ("nano-declip", "nano-clip"))
    >>> interpolate(student, original, 0.7).training
    False
    """
    mixed = frozen_copy(student)
    pairs = zip(mixed.clip.visual.parameters(), original.clip.visual.parameters(), strict=True)
    for own, other in pairs:
        own.copy_(torch.lerp(other, own, alpha))
    return mixed
