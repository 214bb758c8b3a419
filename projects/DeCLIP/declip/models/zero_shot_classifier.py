"""The zero-shot classifier: a vocabulary through prompt templates and the text tower, kept once computed.

* :func:`embed_names`: one direction per name, to compare normalised features with
* :func:`cached_names`: the same, kept in a file
* :class:`ClassEmbeddings`: every prompt by itself, kept in memory or trained through

Shape legend
    N  names        P  prompts per name        C  width of the shared image-text space
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn

from d2host.engine.errors import CheckpointError
from declip.data.class_lists import first_synonym
from declip.models.encoder import DenseCLIP
from declip.models.templates import Templates
from declip.weights.files import read_state_dict, save_tensors

__all__ = ["ClassEmbeddings", "Templates", "cached_names", "embed_names"]


def embed_names(encoder: DenseCLIP, names: Sequence[str], templates: Templates = Templates.IMAGENET) -> Tensor:
    """The mean direction of a name's prompts: N names → N×C unit vectors, float32.

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-clip").eval()
    >>> embeddings = embed_names(encoder, ["red ball", "grass"], Templates.PHOTO)
    >>> embeddings.shape, torch.allclose(embeddings.norm(dim=1), torch.ones(2))
    (torch.Size([2, 128]), True)
    """
    device = encoder.pixel_mean.device
    with torch.autocast(device.type, enabled=False):
        functions = list(templates.functions)
        columns = open_clip.build_zero_shot_classifier(encoder, encoder.tokenize, names, functions, device=device)
    return columns.T.float().contiguous()


def cached_names(encoder: DenseCLIP, names: Sequence[str], templates: Templates, folder: str | Path | None) -> Tensor:
    """As :func:`embed_names`, from a file in ``folder`` where the same text tower embedded the same names before.

    Args:
        folder: of the cache; None: no cache.
    """
    if folder is None:
        return embed_names(encoder, names, templates)
    digest = hashlib.sha256(json.dumps([encoder.name, templates.value, list(names)]).encode())
    for parameter in encoder.text_parameters():
        digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    path = Path(folder) / f"{digest.hexdigest()[:32]}.safetensors"
    if path.is_file():
        try:
            return read_state_dict(path)["embeddings"].to(encoder.pixel_mean.device)
        except (CheckpointError, KeyError):
            path.unlink()  # a torn file is computed again
    embeddings = embed_names(encoder, names, templates)
    facts = {"model": encoder.name, "templates": templates.value, "names": list(names)}
    save_tensors({"embeddings": embeddings}, path, facts)
    return embeddings


class ClassEmbeddings(nn.Module):
    """Text embeddings of every prompt of a vocabulary, encoded once while the text tower's weights stay the same.

    Args:
        templates: what names are put into.
        capacity: how many vocabularies are kept, the longest unused going first.

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-clip").eval()
    >>> embed = ClassEmbeddings(Templates.SINGLE)
    >>> with torch.no_grad():
    ...     embed(encoder, ["red ball", "grass, lawn"]).shape
    torch.Size([2, 1, 128])
    """

    def __init__(self, templates: Templates, capacity: int = 8) -> None:
        super().__init__()
        self.templates, self.capacity = templates, capacity
        self._kept: OrderedDict[tuple[str, ...], _Kept] = OrderedDict()

    def forward(self, encoder: DenseCLIP, class_names: Sequence[str]) -> Tensor:
        """Embeddings N×P×C of a vocabulary, not L2-normalised; of synonyms ``a, b`` the first is used.

        Where gradients are wanted and the text tower trains they are computed anew, under the caller's autocast;
        otherwise they are kept, in the tower's own precision, and serve inference and training alike.
        """
        parameters, device = encoder.text_parameters(), encoder.pixel_mean.device
        kept = self._vocabulary(encoder, tuple(class_names))
        shape = (len(class_names), self.templates.num_prompts, -1)
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters):
            return encoder.encode_text(kept.tokens).view(shape)
        # a fused optimizer changes parameters without counting a version, and inference tensors have none
        versions = [p.sum().item() if p.requires_grad or p.is_inference() else p._version for p in parameters]
        state = [(id(p), p.dtype, p.device, version) for p, version in zip(parameters, versions, strict=True)]
        if kept.state != state:
            # what inference mode makes could not take part in a later training
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
                kept.state, kept.embeddings = state, encoder.encode_text(kept.tokens).view(shape)
        return kept.embeddings

    def _vocabulary(self, encoder: DenseCLIP, names: tuple[str, ...]) -> "_Kept":
        """What is kept of a vocabulary, now the latest used."""
        kept = self._kept.pop(names, None)
        if kept is None or kept.tokens.device != encoder.pixel_mean.device:
            fill = self.templates.functions
            with torch.inference_mode(False):
                tokens = encoder.tokenize([template(first_synonym(name)) for name in names for template in fill])
            kept = _Kept(tokens)
        self._kept[names] = kept
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        return kept


class _Kept:
    """Tokens of a vocabulary, and its embeddings under one state of the text tower."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens
        self.state: list[tuple] = []
        self.embeddings: Tensor | None = None
