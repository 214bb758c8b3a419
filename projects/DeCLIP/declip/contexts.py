"""What an encoder's last block attends by and how sharply: names for configs and command lines, without torch."""

from enum import Enum


class ContextType(str, Enum):
    """What the last block attends by (DeCLIP, Table 7)."""

    Q = "q"  # query-query
    K = "k"  # key-key
    V = "v"  # value-value
    QK = "qk"  # query-query plus key-key, two attention maps summed ("Q + K", "csa")
    ALL = "all"  # one map of the averaged query, key and value similarities
    VANILLA = "vanilla"  # the block as CLIP has it
    MASKCLIP = "maskclip"  # no attention: each token keeps its own value
    CATSEG = "catseg"  # as maskclip, but every token's residual is the class token: what public CAT-Seg computes

    @property
    def projections(self) -> tuple[int, ...]:
        """Which of (query, key, value) are context features, by position."""
        return {"q": (0,), "k": (1,), "v": (2,), "qk": (0, 1), "all": (0, 1, 2)}.get(self.value, ())

    @property
    def decoupled(self) -> bool:
        """Whether the block's residual and feed-forward half are dropped (DeCLIP Eq. 5)."""
        return bool(self.projections)


class AttentionScale(str, Enum):
    """The factor on the similarities before the softmax."""

    SQRT_D = "sqrt_d"  # 1/sqrt(d), DeCLIP Eq. 6
    NONE = "none"  # 1, as the authors' released weights were trained

    def factor(self, head_dim: int) -> float:
        """The factor for ``head_dim`` channels per head."""
        return head_dim**-0.5 if self is AttentionScale.SQRT_D else 1.0
