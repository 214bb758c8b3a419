"""Tensors from files that nobody vouches for: read within bounds, and refused where no model can be meant by them."""

import mmap
import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2host.engine.errors import CheckpointError, in_brief

BOOKKEEPING = re.compile(r"(mask|ids|index)$")  # ends the names of tensors that may hold -inf, or whole numbers
ZIP_START = b"PK\x03\x04"
MOST_UNPACKED, SLACK = 4, 2**20  # times its own size, plus bytes, that an archive may unpack to; weights hardly shrink
BUFFER = b"bytearray"  # a class that torch lets pickles call, with a size that no file backs
LONGEST_NAME = 500  # characters of a tensor's


def load_pickled(path: str | Path, lazy: bool = False) -> Any:
    """What ``torch.save`` wrote, without running code of the file and without trusting its sizes.

    An archive's checksums are verified, which ``torch.load`` does not do.

    Args:
        path: of the file.
        lazy: leave tensors on disk until they are looked at; for archives.

    Raises:
        CheckpointError: the file is missing, damaged, encrypted, or larger inside than outside, or holds code.
    """
    path = Path(path)
    if not os.path.isfile(path):  # unlike the path's own method, of names too long for a file, too
        raise CheckpointError(f"{path} is no file: check the path of the weights")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            archive = content[:4] == ZIP_START
            sizes = check_archive(path) if archive else range(len(content) + 1)
            if not archive and content.find(BUFFER) >= 0:
                raise pickle.UnpicklingError("it makes a buffer of any size")
            loaded = torch.load(path if lazy else file, map_location="cpu", weights_only=True, mmap=lazy)
    except CheckpointError:
        raise
    except Exception as error:  # whatever the bytes make the library do
        reason = error.__context__ or error if isinstance(error, pickle.UnpicklingError) else error  # torch adds advice
        raise CheckpointError(
            f"{path} cannot be read ({in_brief(reason)}): it is damaged or holds more than tensors; get it again"
        ) from error
    if not all(tensor.untyped_storage().nbytes() in sizes for tensor in _tensors_of(loaded)):
        raise CheckpointError(f"{path} describes larger tensors than it holds: get it again")
    return loaded


def check_archive(path: Path) -> set[int]:
    """The sizes in bytes of the members of a zip archive, whose checksums are right.

    Raises:
        CheckpointError: it is damaged, encrypted, or unpacks to more than it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [member.file_size for member in archive.infolist()]
            swollen = sum(sizes) > MOST_UNPACKED * path.stat().st_size + SLACK
            damaged = None if swollen else archive.testzip()
            pickled = [] if swollen or damaged else [name for name in archive.namelist() if name.endswith(".pkl")]
            if any(BUFFER in archive.read(name) for name in pickled):
                raise pickle.UnpicklingError("it makes a buffer of any size")
    except Exception as error:  # as above
        raise CheckpointError(
            f"{path} cannot be read ({in_brief(error)}): it is a damaged, encrypted or unsafe archive; get it again"
        ) from error
    if swollen:
        raise CheckpointError(f"{path} unpacks to {sum(sizes):,} bytes, far more than its own size: get safe weights")
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged (the checksum of its part {damaged} is wrong): get it again")
    return {0, *sizes}


def _tensors_of(content: Any) -> Iterator[Tensor]:
    """Every dense tensor within containers; a container is entered once."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if value.layout is torch.strided and not value.is_meta and not value.is_nested:
                yield value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, Mapping) else value)


@torch.no_grad()
def check_state_dict(state: Any, source: object, own: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """A state dict that a model may have, as it is.

    Args:
        state: names → tensors, or whatever a file holds instead.
        source: what messages call where it comes from.
        own: the state dict that it is for; tensors that have one value throughout there may have so here.

    Raises:
        CheckpointError: it is no state dict, or one of its tensors is not finite, empty, of one value throughout (a
            projection of zeros), stored smaller than it is, sparse, quantized, complex, or integers instead of floats.

    >>> check_state_dict({"proj": torch.tensor([[1.0, float("nan")]])}, "clip.pt")
    Traceback (most recent call last):
    d2host.engine.errors.CheckpointError: clip.pt cannot be used, proj has values that are not finite: get it again
    """
    tensors = isinstance(state, Mapping) and all(isinstance(each, Tensor) for each in state.values())
    named = tensors and all(
        isinstance(name, str) and name.isprintable() and len(name) <= LONGEST_NAME for name in state
    )
    if not named or not state:
        raise CheckpointError(f"{source} holds no state dict of tensors: give the weights of a model")
    for name, tensor in state.items():
        trouble = _trouble(name, tensor, (own or {}).get(name))
        if trouble:
            raise CheckpointError(f"{source} cannot be used, {name} {trouble}: get it again")
    return dict(state)


def _trouble(name: str, tensor: Tensor, own: Tensor | None) -> str:
    """What keeps a tensor from being part of a model, in words; empty where nothing does."""
    dense = tensor.layout is torch.strided and not (tensor.is_nested or tensor.is_quantized or tensor.is_meta)
    if not dense or tensor.is_complex():
        return "is sparse, quantized, nested, complex or without data"
    if not tensor.numel():
        return "is empty"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"of shape {tuple(tensor.shape)} repeats the few values that are stored of it"
    if BOOKKEEPING.search(name):
        return ""
    if not tensor.is_floating_point():
        return f"holds {tensor.dtype} instead of floats" if tensor.numel() > 1 else ""
    low, high = torch.aminmax(tensor.float())
    if not (low.isfinite() and high.isfinite()):
        return "has values that are not finite"
    constant = sum(length > 1 for length in tensor.shape) > 1 and low == high
    if constant and (own is None or own.float().min() < own.float().max()):
        return f"of shape {tuple(tensor.shape)} is {low.item():g} throughout"
    return ""


def check_finite(values: Tensor, what: str) -> None:
    """Make sure that a model's output can be read as numbers.

    Args:
        values: of any shape.
        what: it is, for the message: of which model or of which image.

    Raises:
        CheckpointError: a value is infinite or none.

    >>> check_finite(torch.tensor([0.2, float("nan")]), "the features of street.jpg")
    Traceback (most recent call last):
    d2host.engine.errors.CheckpointError: the features of street.jpg are not finite: the model's weights are damaged, or
    a precision of 16 bits is too narrow for them, try fp32
    """
    if not values.isfinite().all():
        raise CheckpointError(
            f"{what} are not finite: the model's weights are damaged, or a precision of 16 bits is too narrow for "
            "them, try fp32"
        )
