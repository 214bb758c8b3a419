"""The tables of the paper that the nano world can show, as options of the project's own command lines.

Source: DeCLIP (CVPR 2025), Tables 1, 2 and 4-8, and Table 11 of its supplement; ``v2`` is an ablation of what
generalized DeCLIP (arXiv 2508.11256) adds, whose own tables nobody here has read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

REGIONS = ("things mAcc", "stuff mAcc")
DENSE = "dense mIoU"
RETRIEVAL = "caption R@1"  # of whole images, by the class token
SEGMENTED = ("mIoU", "mIoU_seen", "mIoU_unseen")
DETECTED = ("AP50_novel", "AP50_base", "AP50")


class RowKind(Enum):
    """What is evaluated in a row."""

    ORIGINAL = "original"  # nano-CLIP as it is, under a context type
    DISTILLED = "distilled"  # nano-CLIP after distillation
    SEGMENTER = "segmenter"  # CAT-Seg trained on an encoder
    DETECTOR = "detector"  # F-ViT trained on an encoder


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: in the table.
        kind: what is evaluated.
        options: ``KEY VALUE`` pairs for the config of its kind; of ORIGINAL, the context type alone.
        published: what the paper reports of its counterpart, one value per entry of the table's ``published``.
        encoder: of DETECTOR, the distillation that gives its encoder, one for all seeds; None: what the options say.
    """

    name: str
    kind: RowKind
    options: tuple[str, ...] = ()
    published: tuple[float, ...] = ()
    encoder: "Row | None" = None

    def seeds_of(self, seeds: Sequence[int]) -> Sequence[int]:
        """The seeds that make a difference: one where nothing is trained."""
        return seeds[:1] if self.kind is RowKind.ORIGINAL else seeds


@dataclass(frozen=True)
class Claim:
    """What the paper finds: one row is better than another in each of some metrics."""

    better: str
    worse: str
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        number: in the paper, or a name.
        title: of the report.
        metrics: columns, percent.
        rows: see :class:`Row`.
        claims: the pattern of the published table.
        published: what its rows' published values measure, on real images: nothing to compare ours with but in order.
        source: of the claims, in words.
    """

    number: int | str
    title: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    published: tuple[str, ...] = ()
    source: str = "the paper finds"


def _distilled(name: str, *options: str, published: tuple[float, ...] = ()) -> Row:
    return Row(name, RowKind.DISTILLED, options, published)


def _original(name: str, context: str, *published: float) -> Row:
    return Row(name, RowKind.ORIGINAL, (context,), published)


JUDGED = (*REGIONS, DENSE)
UNDECOUPLED = ("MODEL.ENCODER.CONTEXT", "maskclip")  # one feature, as CLIPSelf distils it
CONTENT_ALONE = ("MODEL.DISTILL.TERMS", "['content']")  # self-distillation
CONTEXT_ON_CONTENT = ("MODEL.DISTILL.CONTEXT.FEATURE", "content")  # one feature learns from both teachers
# Not in the paper: the block of the decoupled row, so that nothing but who learns from whom is different.
SAME_BLOCK_SELF, SAME_BLOCK_JOINT = "self-distillation, qk block", "self-distillation and VFM, not decoupled, qk block"

_DECOUPLING = Table(
    1,
    "Decoupling: which feature learns from whom",
    JUDGED,
    (
        _distilled("self-distillation", *CONTENT_ALONE, *UNDECOUPLED, published=(69.5, 44.6, 29.4)),
        _distilled(
            "self-distillation and VFM, not decoupled",
            *(*CONTEXT_ON_CONTENT, *UNDECOUPLED),
            published=(65.6, 41.3, 32.4),
        ),
        _distilled(SAME_BLOCK_SELF, *CONTENT_ALONE),
        _distilled(SAME_BLOCK_JOINT, *CONTEXT_ON_CONTENT),
        _distilled("decoupled", published=(75.0, 51.8, 35.3)),
    ),
    (
        Claim("decoupled", "self-distillation", JUDGED),
        Claim("decoupled", "self-distillation and VFM, not decoupled", JUDGED),
        Claim("decoupled", SAME_BLOCK_SELF, JUDGED),
        Claim("decoupled", SAME_BLOCK_JOINT, JUDGED),
        Claim("self-distillation", "self-distillation and VFM, not decoupled", REGIONS),
        Claim("self-distillation and VFM, not decoupled", "self-distillation", (DENSE,)),
    ),
    ("COCO things mAcc", "COCO stuff mAcc", "Context-59 mIoU"),
)

_SELF_DISTILLED = _distilled("self-distillation", *CONTENT_ALONE, *UNDECOUPLED)
_DETECTORS = Table(
    2,
    "F-ViT on CLIP, on a self-distilled CLIP and on DeCLIP",
    DETECTED,
    (
        Row(
            "F-ViT, nano-CLIP",
            RowKind.DETECTOR,
            ("MODEL.ENCODER.WEIGHTS", "nano-clip", "MODEL.ENCODER.CONTEXT", "maskclip"),
        ),
        Row("F-ViT, self-distilled nano-CLIP", RowKind.DETECTOR, published=(37.6,), encoder=_SELF_DISTILLED),
        Row("F-ViT, nano-DeCLIP", RowKind.DETECTOR, published=(41.1,)),
    ),
    (
        Claim("F-ViT, nano-DeCLIP", "F-ViT, nano-CLIP", ("AP50_novel",)),
        Claim("F-ViT, nano-DeCLIP", "F-ViT, self-distilled nano-CLIP", DETECTED),
        Claim("F-ViT, self-distilled nano-CLIP", "F-ViT, nano-CLIP", ("AP50_novel",)),
    ),
    ("OV-COCO AP50 novel",),
)

_SEGMENTERS = Table(
    4,
    "CAT-Seg on CLIP and on DeCLIP",
    SEGMENTED,
    (
        Row(
            "CAT-Seg, nano-CLIP",
            RowKind.SEGMENTER,
            ("MODEL.ENCODER.WEIGHTS", "nano-clip", "MODEL.ENCODER.CONTEXT", "catseg"),
            published=(31.8,),
        ),
        Row("CAT-Seg, nano-DeCLIP", RowKind.SEGMENTER, published=(36.3,)),
    ),
    (Claim("CAT-Seg, nano-DeCLIP", "CAT-Seg, nano-CLIP", ("mIoU", "mIoU_unseen")),),
    ("ADE20K-150 mIoU",),
)

_ENCODERS = Table(
    5,
    "Dense features against class names, without a trained head",
    (DENSE,),
    (
        _original("CLIP", "vanilla", 14.1),
        _original("MaskCLIP", "maskclip", 30.3),
        _original("ClearCLIP (q)", "q", 38.1),
        _original("SCLIP (qk)", "qk", 38.2),
        _original("ProxyCLIP (nano-VFM)", "proxy:nano-vfm"),  # not in the paper: the teacher at inference
        _distilled("DeCLIP", published=(41.9,)),
    ),
    (
        Claim("MaskCLIP", "CLIP", (DENSE,)),
        Claim("ClearCLIP (q)", "MaskCLIP", (DENSE,)),
        Claim("SCLIP (qk)", "MaskCLIP", (DENSE,)),
        Claim("DeCLIP", "ClearCLIP (q)", (DENSE,)),
        Claim("DeCLIP", "SCLIP (qk)", (DENSE,)),
    ),
    ("mean mIoU of eight datasets",),
)

_TEACHERS = Table(
    6,
    "Teachers of the context",
    JUDGED,
    (
        _distilled("none", *CONTENT_ALONE),
        _distilled("nano-VFM, untrained", "MODEL.TEACHER.WEIGHTS", "random"),
        _distilled("nano-VFM"),
    ),
    (Claim("nano-VFM", "nano-VFM, untrained", JUDGED), Claim("nano-VFM", "none", JUDGED)),
)

_CONTEXTS = Table(
    7,
    "Context types",
    JUDGED,
    (
        *(_distilled(name, "MODEL.ENCODER.CONTEXT", name) for name in ("q", "k", "v")),
        _distilled("qk"),
    ),
    tuple(Claim("qk", name, (DENSE,)) for name in ("q", "k", "v")),
)

_DEPTHS = Table(
    8,
    "Blocks that train, from the last",
    JUDGED,
    (*(_distilled(str(blocks), "MODEL.DISTILL.LAST_N_BLOCKS", str(blocks)) for blocks in (1, 3)), _distilled("all")),
    (Claim("all", "1", JUDGED), Claim("3", "1", JUDGED)),
)


def _weights(lower: float, own: float, higher: float) -> Table:
    """``own`` is the weight of ``distill_nano.yaml``, so that its row is that of the other tables."""
    return Table(
        11,
        "Weight of the context loss, lambda of Eq. 10",
        JUDGED,
        (
            _distilled(f"{lower:g}", "MODEL.DISTILL.CONTEXT.WEIGHT", f"{lower:g}"),
            _distilled(f"{own:g}"),
            _distilled(f"{higher:g}", "MODEL.DISTILL.CONTEXT.WEIGHT", f"{higher:g}"),
        ),
        tuple(Claim(f"{own:g}", f"{other:g}", (DENSE,)) for other in (lower, higher)),
    )


# what generalized DeCLIP adds, one by one, with the weights of its authors' scripts
KL = ("MODEL.DISTILL.CONTEXT.DISTANCE", "kl", "MODEL.DISTILL.CONTEXT.WEIGHT", "0.25")
REGION_CORRELATION = ("MODEL.DISTILL.TERMS", "['content', 'context', 'region_correlation']")
COMPLETION = (
    *("MODEL.DIFFUSION.NAME", "nano-diffusion", "MODEL.DIFFUSION.CELLS", "4"),
    *("MODEL.DIFFUSION.LAYERS", "['down_blocks.1.attentions.0']"),
)

_GENERALIZED = Table(
    "v2",
    "What generalized DeCLIP adds",
    (*JUDGED, RETRIEVAL),
    (
        _original("nano-CLIP", "qk"),
        _distilled("content", *CONTENT_ALONE),
        _distilled("content, L2"),
        _distilled("content, KL", *KL),
        _distilled("content, KL, RCC", *KL, *REGION_CORRELATION),
        _distilled("content, KL, RCC, SD-GSC", *KL, *REGION_CORRELATION, *COMPLETION),
    ),
    (
        Claim("content, L2", "content", JUDGED),
        Claim("content, KL", "content, L2", JUDGED),
        Claim("content, KL, RCC", "content, KL", JUDGED),
        Claim("content, KL, RCC, SD-GSC", "content, KL, RCC", JUDGED),
        Claim("content, KL, RCC, SD-GSC", "content, L2", JUDGED),
    ),
    source="the method says",
)

_WEIGHTS = _weights(0.005, 0.03, 0.25)
_TABLES = (_DECOUPLING, _DETECTORS, _SEGMENTERS, _ENCODERS, _TEACHERS, _CONTEXTS, _DEPTHS, _WEIGHTS)

TABLES: Mapping[int | str, Table] = {table.number: table for table in (*_TABLES, _GENERALIZED)}
"""By number in the paper, or by name."""
