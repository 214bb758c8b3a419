"""Which models of open_clip's catalogue are supported: every image tower built without memory, and asked."""

from collections.abc import Iterable
from dataclasses import dataclass

import open_clip
import torch

from declip.models.factory import check_name
from declip.models.towers.select import find_adapter, missing_of_kind

SMALLEST_TEXT = {"layers": 1, "width": 64, "heads": 1, "context_length": 1, "vocab_size": 2}
HEADER = ("name", "side", "patch", "blocks", "width", "channels", "context types", "needs")


@dataclass(frozen=True)
class CatalogueEntry:
    """A model as an encoder.

    Attributes:
        name: open_clip's.
        missing: why it is not supported; empty where it is.
        image_size, patch_size: pixels, the native side and that of a patch.
        num_blocks: of the transformer.
        width, embed_dim: channels of hidden features, and of dense features and texts.
        has_class_token: whether context type ``catseg`` is possible.
        needs: a package that texts need beyond what is installed with this one.
    """

    name: str
    missing: str
    image_size: int = 0
    patch_size: int = 0
    num_blocks: int = 0
    width: int = 0
    embed_dim: int = 0
    has_class_token: bool = False
    needs: str = ""

    def row(self) -> tuple[str, ...]:
        """Cells of the table of what is supported."""
        contexts = "all" if self.has_class_token else "all but `catseg`"
        sizes = (self.image_size, self.patch_size, self.num_blocks, self.width, self.embed_dim)
        return (f"`{self.name}`", *map(str, sizes), contexts, self.needs)


def describe_encoder(name: str) -> CatalogueEntry:
    """What a model of open_clip's catalogue is as an encoder; nothing is downloaded, no weight exists.

    Raises:
        ConfigError: the name is unknown.

    >>> entry = describe_encoder("ViT-B-16")
    >>> entry.image_size, entry.patch_size, entry.width, entry.embed_dim, entry.missing
    (224, 16, 768, 512, '')
    """
    check_name(name)
    config = open_clip.get_model_config(name)
    smallest = {key: SMALLEST_TEXT for key in ("text_cfg", "multimodal_cfg") if key in config}
    with torch.device("meta"):
        visual = open_clip.create_model(name, device="meta", pretrained_text=False, **smallest).visual
    adapter = find_adapter(visual)
    missing = missing_of_kind(visual) if adapter is None else adapter.missing(visual)
    if missing:
        return CatalogueEntry(name, missing)
    tower = adapter(visual)
    hub = {"hf_model_name", "hf_tokenizer_name"} & config["text_cfg"].keys()
    return CatalogueEntry(
        name,
        "",
        tower.image_size,
        tower.patch_size,
        len(tower.blocks),
        tower.width,
        tower.embed_dim,
        tower.num_prefix_tokens > 0,
        "transformers" if hub else "",
    )


def catalogue_page(names: Iterable[str]) -> str:
    """``docs/encoders.md``: what is supported, and what is not and why."""
    entries = [describe_encoder(name) for name in names]
    supported = [entry.row() for entry in entries if not entry.missing]
    others = [(f"`{entry.name}`", entry.missing) for entry in entries if entry.missing]
    return PAGE.format(
        version=open_clip.__version__,
        supported=_markdown(HEADER, supported),
        count=len(supported),
        total=len(entries),
        others=_markdown(("name", "why not"), others),
    )


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


PAGE = """# Encoders

`MODEL.ENCODER.NAME`, `--encoder` and `declip.build_encoder` take any model of open_clip whose image tower ends in a
block of self-attention over one grid of patches, and those that plug-ins add (`nano`, see [plugins.md](plugins.md)).
Patch size, grid, widths, statistics of the images and the tokenizer follow from the name: nothing else has to be set.

```bash
python tools/train_net.py --config-file declip_catseg_vitb.yaml MODEL.ENCODER.NAME ViT-B-16-SigLIP2 \\
    MODEL.ENCODER.WEIGHTS webli
python tools/list_encoders.py ViT-B-16-SigLIP2 PE-Core-B-16
```

- The library's own modules run; only the last block is taken apart, once for each anatomy: open_clip's block, timm's
  ViT block, timm's EVA block, and EVA's with norms behind its halves.
- Dense features are what the tower's own pooling and projection make of a token that they see alone. So is the mean
  (CLIPA, ViTamin), and a learned query that pools by attention (SigLIP, Perception Encoder, CoCa).
- Batch norms of convolutional stems (MobileCLIP) keep their statistics in training.
- Where a row needs `transformers` (for the tokenizer, or for the whole text tower): `pip install transformers
  sentencepiece`, or the extra `transformers` of this package. Configuration and vocabulary of such texts are downloaded
  from Hugging Face's hub at first use.

## Supported

{count} of the {total} models of open_clip {version}. "channels" is the width of the space of images and texts; context
types are those of [distillation.md](distillation.md); `catseg` needs a class token.

{supported}

## Not supported

{others}

This page is made by `python tools/list_encoders.py --output docs/encoders.md`.
"""
