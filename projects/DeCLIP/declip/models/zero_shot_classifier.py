"""The zero-shot classifier: a vocabulary through prompt templates and the text tower, kept once computed.

* :func:`embed_names`: one direction per name, to compare normalised features with
* :func:`cached_names`: the same, kept in a file
* :class:`ClassEmbeddings`: every prompt by itself, kept in memory or trained through
* :class:`KeptEmbeddings`: either of them name by name, for vocabularies that change from question to question

Shape legend
    N  names        P  prompts per name        C  width of the shared image-text space
"""

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import open_clip
import torch
from torch import Tensor, nn

from d2host.engine.digest import digest_of
from d2host.engine.errors import CheckpointError, DataError
from declip.data.class_lists import first_synonym
from declip.models.encoder import DenseCLIP
from declip.models.templates import Templates, check_texts
from declip.weights.files import read_facts, read_state_dict, save_tensors

EQUAL = 1e-6  # difference of embeddings that rounding may make
MANY = 20_000  # prompts, from which on encoding them shows a bar

__all__ = ["ClassEmbeddings", "KeptEmbeddings", "Templates", "cached_names", "embed_names"]


def embed_names(encoder: DenseCLIP, names: Sequence[str], templates: Templates = Templates.IMAGENET) -> Tensor:
    """The mean direction of a name's prompts: N names → N×C unit vectors, float32.

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-clip").eval()
    >>> embeddings = embed_names(encoder, ["red ball", "grass"], Templates.PHOTO)
    >>> embeddings.shape, torch.allclose(embeddings.norm(dim=1), torch.ones(2))
    (torch.Size([2, 128]), True)
    """
    names, device = check_texts(names, "class names"), encoder.pixel_mean.device
    with torch.autocast(device.type, enabled=False):
        functions = list(templates.functions)
        columns = open_clip.build_zero_shot_classifier(
            encoder, encoder.tokenize, names, functions, device=device, use_tqdm=len(names) * len(functions) > MANY
        )
    embeddings = columns.T.float().contiguous()
    _check_directions(encoder, names, embeddings)
    _warn_of_equals(names, embeddings)
    return embeddings


def cached_names(encoder: DenseCLIP, names: Sequence[str], templates: Templates, folder: str | Path | None) -> Tensor:
    """As :func:`embed_names`, from a file in ``folder`` where the same text tower embedded the same names before.

    A file with anything else in it, damaged or of another vocabulary, is computed again, which is logged.

    Args:
        folder: of the cache; None or empty: no cache.
    """
    if not folder:
        return embed_names(encoder, names, templates)
    names = check_texts(names, "class names")
    tower = digest_of({str(number): each for number, each in enumerate(encoder.text_parameters())})
    made_from = hashlib.sha256(json.dumps([encoder.name, templates.value, names, tower]).encode()).hexdigest()
    path = Path(folder) / f"{made_from[:32]}.safetensors"
    if path.exists():
        try:
            embeddings = read_state_dict(path)["embeddings"]
            facts = {"made_from": made_from, "checksum": digest_of({"embeddings": embeddings})}
            if read_facts(path) == {key: json.dumps(value) for key, value in facts.items()}:
                _warn_of_equals(names, embeddings)
                return embeddings.to(encoder.pixel_mean.device)
            trouble = "it holds something else"
        except (CheckpointError, KeyError) as error:
            trouble = str(error)
        logging.getLogger(__name__).warning("Class embeddings %s are computed again: %s", path, trouble)
    embeddings = embed_names(encoder, names, templates)
    checksum = digest_of({"embeddings": embeddings})
    save_tensors({"embeddings": embeddings}, path, {"made_from": made_from, "checksum": checksum})
    return embeddings


def _check_directions(encoder: DenseCLIP, names: Sequence[str], embeddings: Tensor) -> None:
    """Refuse embeddings N×...×C that are not finite, or zero: no cosine with them means anything."""
    norms = embeddings.norm(dim=-1).flatten(1) if embeddings.dim() > 2 else embeddings.norm(dim=-1)[:, None]
    usable = ((norms > 0) & norms.isfinite()).all(dim=1)
    if not usable.all():
        name = names[int((~usable).nonzero()[0])]
        raise CheckpointError(
            f"the text tower of '{encoder.name}' gives '{name[:80]}' no finite embedding: its weights are damaged"
        )


def _warn_of_equals(names: Sequence[str], rows: Tensor) -> None:
    """Name the classes that nothing tells apart, such as long names that differ where the text tower no longer reads.

    Args:
        names: N.
        rows: N×D, what is made of each: token ids, or embeddings.
    """
    rows = rows.detach().float().cpu()
    # rows that are equal, but for rounding, are neighbours in the order of their products with any vector
    order = (rows @ torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0))).argsort()
    equal = (rows[order[1:]] - rows[order[:-1]]).abs().amax(dim=1) < EQUAL
    pairs = torch.stack([order[:-1][equal], order[1:][equal]], dim=1).sort(dim=1).values.tolist()
    if pairs:
        short = [name if len(name) <= 70 else f"{name[:30]}...{name[-30:]}" for name in names]
        named = [f"'{short[first]}' and '{short[second]}'" for first, second in pairs[:3]]
        more = f" and {len(pairs) - 3} more pairs" if len(pairs) > 3 else ""
        logging.getLogger(__name__).warning(
            "To the text tower these classes are the same (names alike, or cut at its limit), so one of them gets the "
            "other's pixels: %s%s; shorten or rename them",
            ", ".join(named),
            more,
        )


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
        class_names = check_texts(class_names, "class names")
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
                embeddings = encoder.encode_text(kept.tokens).view(shape)
                _check_directions(encoder, class_names, embeddings)
                kept.state, kept.embeddings = state, embeddings
        return kept.embeddings

    def _vocabulary(self, encoder: DenseCLIP, class_names: tuple[str, ...]) -> "_Kept":
        """What is kept of a vocabulary, now the latest used."""
        kept = self._kept.pop(class_names, None)
        if kept is None or kept.tokens.device != encoder.pixel_mean.device:
            fill = self.templates.functions
            names = check_texts(map(first_synonym, class_names), "class names")
            with torch.inference_mode(False):
                tokens = encoder.tokenize([template(name) for name in names for template in fill])
            _warn_of_equals(names, tokens.view(len(names), -1))
            kept = _Kept(tokens)
        self._kept[class_names] = kept
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        return kept


class _Kept:
    """Tokens of a vocabulary, and its embeddings under one state of the text tower."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens
        self.state: list[tuple] = []
        self.embeddings: Tensor | None = None


class KeptEmbeddings:
    """Embeddings of names, each computed once: what a changed vocabulary has in common with earlier ones is there.

    Threads may share it.

    Args:
        encoder: whose text tower reads the names; its weights stay as they are.
        embed: K names → K×... embeddings.
        capacity: how many names are kept, the longest unused going first.

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-clip").eval()
    >>> kept = KeptEmbeddings(encoder, lambda names: embed_names(encoder, names, Templates.NAME))
    >>> kept(["red ball", "grass"]).shape, kept(["grass", "sky", "grass"]).shape
    (torch.Size([2, 128]), torch.Size([3, 128]))
    """

    def __init__(self, encoder: DenseCLIP, embed: Callable[[list[str]], Tensor], capacity: int = 2000) -> None:
        self.encoder, self.embed, self.capacity = encoder, embed, capacity
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = Lock()

    def __call__(self, names: Sequence[str]) -> Tensor:
        """N names → N×... embeddings.

        Raises:
            DataError: the text tower does not read a name to its end.
        """
        with self._lock:
            known = {name: self._kept[name] for name in names if name in self._kept}
        if missing := [name for name in dict.fromkeys(names) if name not in known]:
            # a text that is cut is, to the tower, the same with a word more
            cut = (self.encoder.tokenize(missing) == self.encoder.tokenize([f"{name} on" for name in missing])).all(1)
            for name in [name for name, same in zip(missing, cut.tolist(), strict=True) if same][:1]:
                raise DataError(
                    f"name {name[:40]!r}... of {len(name.split())} words is longer than the text tower of "
                    f"'{self.encoder.name}' reads: shorten it"
                )
            rows = self.embed(missing)
            known |= {name: row.clone() for name, row in zip(missing, rows, strict=True)}
        with self._lock:
            for name in names:
                self._kept[name] = known[name]
                self._kept.move_to_end(name)
            while len(self._kept) > self.capacity:
                self._kept.popitem(last=False)
        return torch.stack([known[name] for name in names])
