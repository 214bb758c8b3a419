"""Weight files with any bytes damaged: every loader refuses them, or gives tensors that a model may have."""

import json
import random
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from d2host.engine.checkpoint_file import load_run, load_weights
from d2host.engine.errors import CheckpointError
from d2host.engine.tensors import check_state_dict
from declip import build_encoder
from declip.models.templates import Templates
from declip.models.zero_shot_classifier import cached_names
from declip.weights.files import FORMAT, read_metadata, read_state_dict

pytestmark = pytest.mark.filterwarnings("ignore")  # what libraries think of such files


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = nn.Linear(6, 4)
        self.logit_scale = nn.Parameter(torch.tensor(2.5))

    def forward(self, x):
        return self.visual(x) * self.logit_scale


FACTS = {"format": f'"{FORMAT}"', "model": '"nano"', "context": '"qk"', "attention_scale": '"sqrt_d"'}
WRITERS = {
    "facts.safetensors": lambda model, path: save_file(model.state_dict(), path, metadata=FACTS),
    "zip.pth": lambda model, path: torch.save({"model": model.state_dict(), "training": {"iteration": 3}}, path),
    "legacy.pth": lambda model, path: torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False),
    "script.pt": lambda model, path: torch.jit.script(model).save(str(path)),
}


def loaded_into_towers(load, path):
    model = Towers()
    load(path, model)
    return model.state_dict()


LOADERS = {
    "state dict": lambda path: check_state_dict(read_state_dict(path), path),
    "facts": read_metadata,
    "run": lambda path: loaded_into_towers(load_run, path),
    "weights": lambda path: loaded_into_towers(load_weights, path),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The bytes of a whole file of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    model, contents = Towers(), {}
    for name, write in WRITERS.items():
        write(model, folder / name)
        contents[name] = (folder / name).read_bytes()
    return contents


def damaged(content, seed):
    """A file with bits flipped, bytes changed, blocks repeated or removed, or its end cut off.

    Of five places one is near the end, two among the first 600 bytes, where headers are, and two anywhere.
    """
    rng, changed = random.Random(seed), bytearray(content)
    near_end, near_start = max(len(content) - 300, 0), min(600, len(content))
    where = rng.randrange(*rng.choice([(near_end, len(content)), *[(0, near_start), (0, len(content))] * 2]))
    block = slice(where, where + rng.choice([1, 1, 2, 8, 64]))
    kind = rng.choice(["flip", "random", "zeros", "ones", "repeat", "remove", "cut"])
    if kind == "flip":
        changed[where] ^= 1 << rng.randrange(8)
    elif kind in ("random", "zeros", "ones"):
        length = len(changed[block])
        changed[block] = {"random": rng.randbytes(length), "zeros": bytes(length), "ones": b"\xff" * length}[kind]
    elif kind == "repeat":
        changed[where:where] = changed[block]
    else:
        del changed[slice(where, None) if kind == "cut" else block]
    return bytes(changed)


def refused_or_usable(content, path):
    """Every loader refuses a file in one sentence that names it, or what it has loaded is finite."""
    path.write_bytes(content)
    for load in LOADERS.values():
        try:
            loaded = load(path)
        except CheckpointError as error:
            assert path.name in str(error) and "\n" not in str(error)
        else:
            tensors = [each for each in loaded.values() if isinstance(each, torch.Tensor)]
            assert all(tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point())


@pytest.mark.parametrize("name", WRITERS)
def test_whole_files_are_read(files, name, tmp_path):
    (tmp_path / name).write_bytes(files[name])
    state = read_state_dict(tmp_path / name)
    assert state.keys() == Towers().state_dict().keys()


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_are_refused_or_usable(files, name, tmp_path):
    for seed in range(100):
        refused_or_usable(damaged(files[name], seed), tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("part", range(4))
def test_many_damaged_files_are_refused_or_usable(files, name, part, tmp_path):
    for seed in range(1000 * part, 1000 * (part + 1)):
        refused_or_usable(damaged(files[name], seed), tmp_path / name)


@pytest.mark.parametrize("name", WRITERS)
def test_files_cut_off_anywhere_are_refused(files, name, tmp_path):
    content, path = files[name], tmp_path / name
    for length in range(0, len(content), max(len(content) // 60, 1)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=name):
            read_state_dict(path)


def test_damaged_class_embeddings_are_computed_again(tmp_path, caplog):
    encoder = build_encoder("nano", "nano-clip").eval()
    expected = cached_names(encoder, ["grass", "water"], Templates.NAME, tmp_path)
    path = next(tmp_path.iterdir())
    content = path.read_bytes()
    for seed in range(60):
        path.write_bytes(damaged(content, seed))
        again = cached_names(encoder, ["grass", "water"], Templates.NAME, tmp_path)
        assert torch.equal(again, expected) and torch.equal(read_state_dict(path)["embeddings"], expected)
    assert caplog.text.count("are computed again") > 50


def header(entries, tensors=b""):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def entry(offsets, dtype="F32", shape=(2, 2)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


DATA = torch.randn(4, 2).numpy().tobytes()
HEADERS = {
    "a length beyond the file": struct.pack("<Q", 2**62) + b"{}",
    "a length beyond any memory": struct.pack("<Q", 2**64 - 1) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"{{{{",
    "no text": struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe",
    "a list": header([1, 2]),
    "overlapping tensors": header({"a": entry((0, 16)), "b": entry((8, 24))}, DATA),
    "a gap between tensors": header({"a": entry((0, 16)), "b": entry((24, 40))}, DATA + DATA),
    "tensors beyond the end": header({"a": entry((0, 16)), "b": entry((16, 4096))}, DATA),
    "offsets in reverse": header({"a": entry((16, 0))}, DATA),
    "negative offsets": header({"a": entry((-16, 0))}, DATA),
    "a shape of other size": header({"a": entry((0, 16), shape=(5, 5))}, DATA[:16]),
    "a shape beyond 64 bits": header({"a": entry((0, 16), shape=(2**40, 2**40))}, DATA[:16]),
    "a negative shape": header({"a": entry((0, 16), shape=(-2, -2))}, DATA[:16]),
    "an unknown type": header({"a": entry((0, 16), dtype="F31")}, DATA[:16]),
    "a type of integers": header({"a": entry((0, 16), dtype="I32")}, DATA[:16]),
    "no tensor": header({}),
    "facts alone": header({"__metadata__": FACTS}),
    "facts that are no texts": header({"__metadata__": {"format": 3}, "a": entry((0, 16))}, DATA[:16]),
    "lists within lists": struct.pack("<Q", 200_000) + b"[" * 200_000,
}


@pytest.mark.parametrize("name", HEADERS)
def test_impossible_headers_are_refused(name, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(HEADERS[name])
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        read_state_dict(tmp_path / "w.safetensors")


WRONG_FACTS = {
    "a model that is none": {"model": '"no-such-model"'},
    "another model": {"model": '"ViT-B-16"'},
    "a model of another shape": {"model": '["nano"]'},
    "a model that is null": {"model": "null"},
    "a context that is none": {"context": '"qkv"'},
    "a context of another shape": {"context": '{"q": 1}'},
    "a list as scale": {"attention_scale": "[1]"},
    "a number as scale": {"attention_scale": "1"},
    "no JSON": {"model": "nano"},
    "nothing": {"context": ""},
    "lists within lists": {"context": "[" * 100_000},
}


@pytest.mark.parametrize("name", WRONG_FACTS)
def test_facts_that_nobody_writes_are_refused(name, tmp_path):
    state = build_encoder("nano", "random").clip.state_dict()
    save_file(state, tmp_path / "w.safetensors", metadata={**FACTS, **WRONG_FACTS[name]})
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        build_encoder("nano", str(tmp_path / "w.safetensors"))


class Archived(nn.Module):
    """A module whose archive describes ``proj`` as its test wants it."""

    def __init__(self, proj):
        super().__init__()
        self.register_buffer("proj", proj)

    def forward(self, x):
        return x


@pytest.mark.parametrize("proj", [torch.randn(()).expand(40_000, 50_000), torch.randn(9).as_strided((4, 6), (1, 1))])
@pytest.mark.parametrize("kind", ["script.pt", "zip.pth", "legacy.pth"])
def test_tensors_larger_than_what_is_stored_of_them_are_never_made(kind, proj, tmp_path):
    path = tmp_path / kind
    WRITERS[kind](Archived(proj), path)
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match=r"proj of shape .* repeats the few values that are stored of it"):
        read_state_dict(path)
