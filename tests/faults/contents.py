"""Files of odd content, by kind: what it is → (content, what should come of it)."""

import io
import struct
import zipfile
import zlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save

from tests.faults.values import Expected

REFUSED, FINE, EITHER = Expected.REFUSED, Expected.FINE, Expected.EITHER

CONFIGS = {
    "empty": (b"", EITHER),
    "a remark": (b"# nothing\n", EITHER),
    "null": (b"null\n", EITHER),
    "a list": (b"- MODEL\n- SOLVER\n", REFUSED),
    "a text": (b"MODEL\n", REFUSED),
    "a number": (b"5\n", REFUSED),
    "two documents": (b"SEED: 1\n---\nSEED: 2\n", REFUSED),
    "MODEL null": (b"MODEL:\n", REFUSED),
    "MODEL a number": (b"MODEL: 5\n", REFUSED),
    "SOLVER a list": (b"SOLVER: []\n", REFUSED),
    "a leaf with children": (b"SEED: {A: 1}\n", REFUSED),
    "number as key": (b"1: 2\n", REFUSED),
    "null as key": (b"null: 2\n", REFUSED),
    "list as key": (b"? [1, 2]\n: 3\n", REFUSED),
    "number as inner key": (b"SOLVER: {1: 2}\n", REFUSED),
    "key of dots": (b"SOLVER.MAX_ITER: 3\n", REFUSED),
    "key twice": (b"SEED: 1\nSEED: 2\n", REFUSED),
    "python object": (b"SEED: !!python/object/apply:os.getcwd []\n", REFUSED),
    "python tuple": (b"SEED: !!python/tuple [1]\n", REFUSED),
    "unknown tag": (b"SEED: !foo 3\n", REFUSED),
    "tab": (b"SOLVER:\n\tMAX_ITER: 3\n", REFUSED),
    "open bracket": (b"SOLVER: {MAX_ITER: 3\n", REFUSED),
    "NUL": (b"SEED: 1\x00\n", REFUSED),
    "control character": (b"SEED: \x07\n", REFUSED),
    "UTF-16": ("SEED: 1\n".encode("utf-16"), EITHER),
    "Latin-1": ("OUTPUT_DIR: caf\u00e9\n".encode("latin-1"), REFUSED),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), REFUSED),
    "deep lists": (b"SEED: " + b"[" * 20_000, REFUSED),
    "deep maps": (b"".join(b" " * depth + b"A:\n" for depth in range(2000)), REFUSED),
    "aliases of aliases": (
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n".encode() for n in range(12)
        ),
        REFUSED,
    ),
    "alias of itself": (b"SOLVER: &a\n  AMP: *a\n", REFUSED),
    "list of itself": (b"SEED: &a [*a]\n", REFUSED),
    "unknown alias": (b"SEED: *a\n", REFUSED),
    "base is itself": (b"_BASE_: config.yaml\nSEED: 1\n", REFUSED),
    "base is missing": (b"_BASE_: gone.yaml\n", REFUSED),
    "base is a folder": (b"_BASE_: bad/folder\n", REFUSED),
    "base is a pipe": (b"_BASE_: bad/pipe.yaml\n", REFUSED),
    "base is rubbish": (b"_BASE_: bad/rubbish.yaml\n", REFUSED),
    "base is a number": (b"_BASE_: 5\n", REFUSED),
    "base is a list": (b"_BASE_: [config.yaml]\n", REFUSED),
    "base is a map": (b"_BASE_: {A: 1}\n", REFUSED),
    "base is null": (b"_BASE_:\n", REFUSED),
    "base is empty": (b"_BASE_: ''\n", REFUSED),
    "base is long": (b"_BASE_: " + b"x" * 5000 + b".yaml\n", REFUSED),
    "unknown key": (b"SOLVER: {SPEED: 3}\n", REFUSED),
    "unknown group": (b"SPEED: {A: 3}\n", REFUSED),
    "nan": (b"SOLVER: {BASE_LR: .nan}\n", REFUSED),
    "infinite": (b"SOLVER: {BASE_LR: .inf}\n", REFUSED),
    "text for number": (b"SOLVER: {BASE_LR: 1e-4}\n", EITHER),  # YAML 1.1 reads a text here, people mean a number
    "date": (b"SEED: 2026-01-01\n", REFUSED),
    "sexagesimal": (b"OUTPUT_DIR: 12:30:45\n", REFUSED),
    "yes for a text": (b"OUTPUT_DIR: yes\n", REFUSED),
    "binary": (b"OUTPUT_DIR: !!binary aGVsbG8=\n", REFUSED),
    "set": (b"DATASETS: !!set {A, B}\n", REFUSED),
    "large": (b"# " + b"x" * 20_000_000 + b"\n5\n", REFUSED),
    "window line ends": (b"SEED: 1\r\nFOO: 2\r\n", REFUSED),
}
LINES = {
    "empty": (b"", REFUSED),
    "blank": (b"\n \n\t\n", REFUSED),
    "remarks": (b"# a\n# b\n", REFUSED),
    "NUL": (b"grass\x00\nsky\n", EITHER),
    "Latin-1": ("caf\u00e9\nsky\n".encode("latin-1"), REFUSED),
    "UTF-16": ("grass\nsky\n".encode("utf-16"), REFUSED),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(range(128, 256)), REFUSED),
}
CLASS_LISTS = {
    **LINES,
    "byte-order mark": ("grass\nsky\n".encode("utf-8-sig"), FINE),
    "byte-order mark before a remark": ("# list\ngrass\nsky\n".encode("utf-8-sig"), FINE),
    "window line ends": (b"grass\r\nsky\r\n", FINE),
    "no last line end": (b"grass\nsky", FINE),
    "twice": (b"grass\nsky\ngrass\n", REFUSED),
    "twice but for spaces": (b"grass\n  grass \n", REFUSED),
    "thousands": (b"".join(b"thing %d\n" % number for number in range(1000)), EITHER),
    "long name": (b"x" * 100_000 + b"\nsky\n", EITHER),
    "dollars": (b"$x$\n$\\frac$\n$\n", FINE),
    "line separators": ("grass\u2028sky\x0bsea\x1cice\n".encode(), EITHER),
    "right to left": ("\u202egrass\nsky\n".encode(), EITHER),
    "commas": (b",\n, ,\n", EITHER),
    "a JSON list": (b'["grass", "sky"]\n', EITHER),
}
JSONS = {
    "empty": b"",
    "blank": b"  \n",
    "null": b"null",
    "a list": b"[1, 2]",
    "a number": b"5",
    "a text": b'"images"',
    "true": b"true",
    "empty map": b"{}",
    "empty lists": b'{"images": [], "annotations": [], "categories": []}',
    "nulls": b'{"images": null, "annotations": null, "categories": null}',
    "numbers": b'{"images": 1, "annotations": 2, "categories": 3}',
    "texts": b'{"images": "a", "annotations": "b", "categories": "c"}',
    "lists of null": b'{"images": [null], "annotations": [null], "categories": [null]}',
    "maps": b'{"images": {"a": 1}, "annotations": {"a": 1}, "categories": {"a": 1}}',
    "cut off": b'{"images": [{"id": 1, "file_name": "a.',
    "two values": b"{} {}",
    "deep": b"[" * 200_000,
    "deep map": b'{"images":' * 100_000,
    "Latin-1": '{"images": [{"file_name": "caf\u00e9.jpg"}]}'.encode("latin-1"),
    "NUL": b"\x00" * 100,
    "long number": b'{"images": ' + b"9" * 10_000 + b"}",
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(range(128, 256)),
}


def _saved(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def _png(width, height, data=b"", depth=8, color=2, more=b""):
    """A PNG of a declared size with as much data as is given."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )


def _text_bomb():
    content = b"note\x00\x00" + zlib.compress(b"a" * 100_000_000)
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


def _image(mode, size=(48, 32), kind="PNG", **options):
    array = np.random.default_rng(0).integers(0, 255, (size[1], size[0]), np.uint8)
    return lambda _: _saved(Image.fromarray(array).convert(mode), kind, **options)


def _array(array, kind="PNG"):
    return lambda _: _saved(Image.fromarray(array), kind)


RAMP = np.linspace(0, 60000, 48 * 32).reshape(32, 48)
IMAGES = {
    ".png empty": (lambda _: b"", REFUSED),
    ".png text": (lambda _: b"no image\n", REFUSED),
    ".png one pixel": (_image("RGB", (1, 1)), FINE),
    ".png one row": (_image("RGB", (400, 1)), FINE),
    ".png one column": (_image("RGB", (1, 400)), FINE),
    ".png long": (_image("RGB", (2000, 1)), FINE),
    ".png grey": (_image("L"), FINE),
    ".png bilevel": (_image("1"), FINE),
    ".png palette": (_image("P"), FINE),
    ".png alpha": (_image("RGBA"), FINE),
    ".png grey and alpha": (_image("LA"), FINE),
    ".png 16 bit": (_array(RAMP.astype(np.uint16)), EITHER),
    ".jpg CMYK": (_image("CMYK", kind="JPEG"), FINE),
    ".jpg grey": (_image("L", kind="JPEG"), FINE),
    ".jpg that is a PNG": (_image("RGB"), FINE),
    ".png that is a GIF": (_image("P", kind="GIF"), EITHER),
    ".png that is a float TIFF": (_array(RAMP.astype(np.float32), "TIFF"), EITHER),
    ".png that is PostScript": (lambda _: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", REFUSED),
    ".png of 0x0": (lambda _: _png(0, 0), REFUSED),
    ".png of 10 GB declared": (lambda _: _png(60_000, 60_000), REFUSED),
    ".png of 150 MP declared": (lambda _: _png(15_000, 10_000), REFUSED),
    ".png of 2 GP wide": (lambda _: _png(2**31 - 1, 1), REFUSED),
    ".png with a text bomb": (lambda _: _png(2, 2, bytes(14), more=_text_bomb()), EITHER),
    ".png without data": (lambda _: _png(48, 32), REFUSED),
    ".png of odd depth": (lambda _: _png(4, 4, bytes(100), depth=3), REFUSED),
    ".webp": (_image("RGB", kind="WEBP"), FINE),
    ".bmp": (_image("RGB", kind="BMP"), FINE),
    ".bmp of 40 GB declared": (lambda _: _image("RGB", kind="BMP")(_)[:18] + struct.pack("<ii", 10**5, 10**5), REFUSED),
}


def _tensors(change):
    """The shipped encoder with its tensors changed, as safetensors."""

    def make(world):
        state = load_file(world / "encoder.safetensors")
        return save(change(state) or state)

    return make


def _filled(name, number):
    def change(state):
        key = next(key for key in state if name in key)
        state[key] = torch.full_like(state[key], number)

    return _tensors(change)


def _pickled(make):
    def content(world):
        file = io.BytesIO()
        torch.save(make(load_file(world / "encoder.safetensors")), file)
        return file.getvalue()

    return content


class _Code:
    def __reduce__(self):
        return print, ("code ran",)


def _without_first(state):
    return dict(list(state.items())[1:])


def _zip(*members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return content.getvalue()


WEIGHTS = {
    **{
        f".safetensors {number} in {name}": (_filled(name, number), REFUSED)
        for name in ("visual.proj", "text_projection", "visual.conv1", "token_embedding", "logit_scale")
        for number in (float("nan"), float("inf"), float("-inf"))
    },
    ".safetensors all nan": (_tensors(lambda s: {k: torch.full_like(t, float("nan")) for k, t in s.items()}), REFUSED),
    ".safetensors all zero": (_tensors(lambda s: {k: torch.zeros_like(t) for k, t in s.items()}), REFUSED),
    ".safetensors no tensors": (lambda _: save({}), REFUSED),
    ".safetensors one missing": (_tensors(_without_first), REFUSED),
    ".safetensors one more": (_tensors(lambda s: {**s, "foo": torch.zeros(1)}), EITHER),
    ".safetensors transposed": (_tensors(lambda s: {k: t.T.contiguous() for k, t in s.items() if t.ndim < 3}), REFUSED),
    ".safetensors integers": (_tensors(lambda s: {k: t.long() for k, t in s.items()}), REFUSED),
    ".safetensors complex": (_tensors(lambda s: {k: t.to(torch.complex64) for k, t in s.items()}), REFUSED),
    ".safetensors float8": (_tensors(lambda s: {k: t.to(torch.float8_e4m3fn) for k, t in s.items()}), EITHER),
    ".safetensors scalars": (_tensors(lambda s: {k: torch.zeros(()) for k in s}), REFUSED),
    ".safetensors empty": (_tensors(lambda s: {k: t[:0].contiguous() for k, t in s.items() if t.ndim}), REFUSED),
    ".safetensors long header": (lambda _: struct.pack("<Q", 2**60) + b"{}", REFUSED),
    ".safetensors facts of another shape": (
        lambda world: save(load_file(world / "encoder.safetensors"), {"format": '"declip-encoder-1"', "context": "["}),
        REFUSED,
    ),
    ".safetensors facts of another kind": (
        lambda world: save(
            load_file(world / "encoder.safetensors"), {"format": '"declip-encoder-1"', "context": "[1]"}
        ),
        REFUSED,
    ),
    ".pth a list": (_pickled(lambda s: list(s.values())), REFUSED),
    ".pth a tensor": (_pickled(lambda s: torch.zeros(3)), REFUSED),
    ".pth None": (_pickled(lambda s: None), REFUSED),
    ".pth a number": (_pickled(lambda s: 5), REFUSED),
    ".pth empty": (_pickled(lambda s: {}), REFUSED),
    ".pth numbers as keys": (_pickled(lambda s: dict(enumerate(s.values()))), REFUSED),
    ".pth numbers among them": (_pickled(lambda s: {**s, "epoch": 3}), EITHER),
    ".pth wrapped": (_pickled(lambda s: {"state_dict": s, "epoch": 3}), FINE),
    ".pth wrapped twice": (_pickled(lambda s: {"model": {"state_dict": s}}), EITHER),
    ".pth wrapped nothing": (_pickled(lambda s: {"state_dict": None, "model": {}}), REFUSED),
    ".pth of modules": (_pickled(lambda s: {f"module.{k}": t for k, t in s.items()}), FINE),
    ".pth nan": (_pickled(lambda s: {k: t * float("nan") for k, t in s.items()}), REFUSED),
    ".pth sparse": (_pickled(lambda s: {k: t.to_sparse() if t.ndim == 2 else t for k, t in s.items()}), REFUSED),
    ".pth meta": (_pickled(lambda s: {k: t.to("meta") for k, t in s.items()}), REFUSED),
    ".pth stride 0": (_pickled(lambda s: {**s, "visual.proj": torch.zeros(1).expand(60_000, 60_000)}), REFUSED),
    ".pth code": (_pickled(lambda s: {"state_dict": _Code()}), REFUSED),
    ".pth an empty zip": (lambda _: _zip(), REFUSED),
    ".pth a zip of text": (lambda _: _zip(("a/data.pkl", b"text")), REFUSED),
    ".pt no data.pkl": (lambda _: _zip(("a/code/b.py", b"")), REFUSED),
    ".pt text for data.pkl": (lambda _: _zip(("a/code/b.py", b""), ("a/data.pkl", b"text")), REFUSED),
    ".pt a bomb": (lambda _: _zip(("a/code/b.py", b""), ("a/data.pkl", bytes(2**30))), REFUSED),
    ".bin text": (lambda _: b"text", REFUSED),
}
