"""Zero-shot classifiers: a vocabulary through prompt templates and the text tower, kept on disk once computed.

Shape legend
    N  names        P  prompts per name        C  width of the shared image-text space
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from d2host.engine.errors import CheckpointError
from declip.models.encoder import DenseCLIP
from declip.weights.files import read_state_dict, save_tensors

Template = Callable[[str], str]


class Templates(str, Enum):
    """What a class name is put into."""

    IMAGENET = "imagenet"  # the 80 of CLIP's ImageNet evaluation, averaged
    PHOTO = "photo"  # "a photo of a ..."
    NAME = "name"  # the name alone

    @property
    def functions(self) -> Sequence[Template]:
        """Name → prompt, one function per template."""
        if self is Templates.IMAGENET:
            return OPENAI_IMAGENET_TEMPLATES
        return ["a photo of a {}".format if self is Templates.PHOTO else str]


@torch.no_grad()
def embed_names(encoder: DenseCLIP, names: Sequence[str], templates: Templates = Templates.IMAGENET) -> Tensor:
    """The mean direction of a name's prompts: N names → N×C unit vectors, float32."""
    functions = templates.functions
    embedded = []
    for name in names:
        prompts = encoder.encode_text([function(name) for function in functions]).float()
        embedded.append(F.normalize(F.normalize(prompts, dim=1).mean(dim=0), dim=0))
    return torch.stack(embedded)


def cached_names(encoder: DenseCLIP, names: Sequence[str], templates: Templates, folder: str | Path | None) -> Tensor:
    """As :func:`embed_names`, from a file in ``folder`` where the same text tower embedded the same names before.

    Args:
        folder: of the cache; None: no cache.
    """
    if folder is None:
        return embed_names(encoder, names, templates)
    path = Path(folder) / f"{_fingerprint(encoder, names, templates)}.safetensors"
    if path.is_file():
        try:
            return read_state_dict(path)["embeddings"].to(encoder.pixel_mean.device)
        except (CheckpointError, KeyError):
            path.unlink()  # a torn file is computed again
    embeddings = embed_names(encoder, names, templates)
    facts = {"model": encoder.name, "templates": templates.value, "names": list(names)}
    save_tensors({"embeddings": embeddings}, path, facts)
    return embeddings


def _fingerprint(encoder: DenseCLIP, names: Sequence[str], templates: Templates) -> str:
    """What embeddings depend on, as a file name: weights of the text tower, templates, names."""
    digest = hashlib.sha256(json.dumps([encoder.name, templates.value, list(names)]).encode())
    for parameter in encoder.text_parameters():
        digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
