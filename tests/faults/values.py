"""The catalogue: for every kind of argument, values that do not fit, and what should come of each.

``{world}`` and ``{case}`` stand for the folders of :mod:`tests.faults.world`.
"""

from dataclasses import dataclass
from enum import Enum

from tests.faults.world import LONG, SUFFIXES


class Expected(Enum):
    """What should come of a command line."""

    REFUSED = "refused"  # status 2, one sentence
    FINE = "fine"  # status 0
    EITHER = "either"  # the value may be right for somebody: no traceback, no hang, no memory


@dataclass(frozen=True)
class Value:
    """What stands on the command line in place of a valid argument."""

    label: str
    tokens: tuple[str, ...]
    expected: Expected = Expected.REFUSED


def value(text, expected=Expected.REFUSED, label=""):
    return Value(label or (text if len(text) < 40 else f"{text[:12]}... ({len(text)})"), (text,), expected)


HUGE = "1" + "0" * 30
NO_NUMBERS = ("", " ", "ten", "nan", "-nan", "inf", "-inf", "1e400", "0x10", "1,5", "[]", "None", "½", "--", "1" * 5000)
NO_NAMES = ("", " ", "foo", "ünïcödé", "../foo", "/etc/passwd", "a\nb", "\udcff", "*", "{}", "%s", "$HOME", LONG)


def numbers(*more, fine=(), odd=("1_0", "٣", " 7 "), integers=True):
    """Texts that are no such number; ``more`` are numbers out of range, ``odd`` and ``fine`` may be taken for some."""
    halves = ("1.5", HUGE) if integers else ()
    refused = [value(text) for text in (*NO_NUMBERS, *halves, *more)]
    return [*refused, *(value(text, Expected.EITHER) for text in (*odd, *fine))]


def paths(*suffixes, also=(), fine=()):
    """Paths at which there is no file with such content."""
    spoilt = [
        value(f"{{case}}/bad/{kind}{suffix}", label=f"{kind}{suffix}")
        for suffix in suffixes
        for kind in ("gone", "empty", "rubbish", "folder", "dangling", "pipe")
    ]
    odd = ("{case}/bad/loop", "{case}/bad/empty/below.txt", "/dev/null", "/dev/zero", "\udcff.json", "a\nb.json", LONG)
    return [*spoilt, *(value(path) for path in (*odd, *also)), *(value(path, Expected.EITHER) for path in fine)]


def outputs(*suffixes, folder=False):
    """Places where nothing can be written."""
    names = [
        f"{kind}{suffix}" for suffix in suffixes for kind in ("dangling", "pipe", *(() if folder else ("folder",)))
    ]
    names += ["loop", "empty/below", "loop/below", *(("empty", "rubbish.txt") if folder else ())]
    odd = ("", " ", "/proc/declip/out", "/dev/null/out", LONG, f"{{case}}/{LONG}")
    ends = [text + (suffixes[0] if text.strip() and not folder else "") for text in odd]
    return [*(value(f"{{case}}/bad/{name}", label=name) for name in names), *(value(text) for text in ends)]


VALUES = {
    "flag": [],
    "count": numbers("-1", "-2147483649"),
    "positive": numbers("-1", "0", "-0"),
    "seed": numbers("-1"),
    "side": numbers("-1", "-64", "7", "1000000000"),
    "sides": [*numbers("0", "-1", "7", "1000000000"), Value("twice", ("64", "64"), Expected.EITHER)],
    "length": numbers("-1", fine=("1", "3", "1000000000")),
    "stride": numbers("-1", "0", fine=("1", "3", "1000000000")),
    "scale": numbers("-1", "0", integers=False, fine=("1e-30", "1e30")),
    "share": numbers("-0.1", "1", "1.0", "1e30", integers=False, fine=("0.999",)),
    "processes": numbers("-1", "0", "100000", odd=()),
    "few": numbers("-1", "0", odd=()),
    "workers": numbers("-1", "100000", odd=()),
    "choice": [value(text) for text in NO_NAMES],
    "device": [value(text) for text in (*NO_NAMES, "cuda:99", "cuda:-1", "cuda:x", "cpu:x", "cuda:", "xla", "meta")],
    "encoder": [value(text) for text in (*NO_NAMES, "nano ", "RN50", "ViT-B-99", "local-dir:/nowhere")],
    "dataset": [value(text) for text in (*NO_NAMES, "voc23", "nano", "voc_2012_test", "ade20k_150_test_sem_seg")],
    "benchmark": [value(text) for text in (*NO_NAMES, "voc23", "nano", "nano_val", "all", "voc_2012_test")],
    "weights": [
        *(value(text) for text in NO_NAMES if text),
        *paths(".safetensors", ".pth", ".pt", also=("openai", "nano-vfm", "{world}/classes.txt", "{world}/photos")),
        *(value(f"{{world}}/{name}") for name in ("vfm.safetensors", "runs/catseg/model_final.pth", "regions.json")),
    ],
    "model": [
        *(value(text) for text in NO_NAMES),
        *paths(".safetensors", ".pth", "", also=("{world}/photos", "{world}/runs/distill", "{world}/runs/pretrain")),
        *(value(f"{{world}}/{name}") for name in ("encoder.pth", "vfm.safetensors", "catseg.yaml", "photos.json")),
    ],
    "images": paths(*SUFFIXES, also=("", " ", "{world}/data/nowhere", "{world}/classes.txt", "{case}/bad/broken")),
    "classes": [
        *(Value(repr(tokens), tokens) for tokens in (("",), (" ",), ("a", "a"), ("a", ""), ("a", " a "), ("\n",))),
        *(each for each in paths(".txt") if each.tokens[0].endswith(".txt")),
        *(value(name, Expected.EITHER) for name in ("$a$", "%s", "{}", "ünïcödé", "\udcff", "a,b", "a;b", ",", LONG)),
        Value("thousands", tuple(f"thing {number}" for number in range(1000)), Expected.EITHER),
        Value("a list and a name", ("{world}/classes.txt", "grass")),
    ],
    "places": [value(text) for text in ("", " ", "1", "1,2,3", "a,b", "nan,1", "1,inf", "100000,1", "1;2", LONG)],
    "layers": numbers("99", "-99", "1000000"),
    "dots": numbers("-1", "0", "29", "601", "1000000000"),
    "patches": numbers("-1", "0", "129", "1000000000"),
    "background": [
        *(value(text) for text in ("", " ", "0", "-0.1", "1", "1e400", "nan", "-inf", "grass", ";", "\udcff", LONG)),
        *(value(text, Expected.EITHER) for text in ("0.5", "wall; floor", "$HOME", "{}", "ten", "1,5", "a\nb")),
    ],
    "regions": [
        *(value(text) for text in NO_NAMES),
        *paths(".json", "", also=("voc_2012_test_sem_seg", "{world}/photos.json", "{world}/catseg.yaml")),
    ],
    "image root": paths("", ".txt", also=("{world}/data", "{world}/regions.json", "foo")),
    "panoptic root": paths("", ".txt", also=("{world}/photos", "{world}/regions.json", "foo")),
    "config": [
        *(value(text) for text in NO_NAMES if text),
        *paths(".yaml", also=("{world}/photos", "{world}/photos.tar", "{world}/encoder.safetensors")),
    ],
    "data root": paths("", ".txt", also=("", " ", "{world}/regions.json", "foo", "{world}/photos")),
    "folder": outputs("", folder=True),
    "cache": outputs("", folder=True),
    "picture": [*outputs(".png"), *(value(f"{{case}}/out{suffix}") for suffix in ("", ".foo", ".txt", "."))],
    "export": outputs("", folder=True),
    "converted": outputs(".safetensors"),
    "page": outputs(".md"),
    "overrides": [
        *(Value(" ".join(tokens)[:40] or "empty", tokens) for tokens in (
            ("SOLVER.MAX_ITER",), ("FOO", "1"), ("SOLVER.FOO", "1"), ("SOLVER.MAX_ITER", "1", "X"), ("", ""),
            ("SOLVER", "1"), ("SOLVER.MAX_ITER.X", "1"), (".", "1"), ("SOLVER.", "1"), (".SOLVER", "1"),
            ("solver.max_iter", "1"), ("SOLVER.MAX_ITER=1",), ("\udcff", "1"), ("_BASE_", "x.yaml"), (LONG, "1"),
            ("SOLVER.MAX_ITER", "("), ("SOLVER.MAX_ITER", "[" * 3000), ("SOLVER.MAX_ITER", "-" * 3000 + "1"),
            ("SOLVER.MAX_ITER", "9" * 5000), ("SOLVER.MAX_ITER", "__import__('os')"), ("SOLVER.MAX_ITER", "1;2"),
            ("SEED", "\x01"), ("--resume", "1"),
        )),
    ],
}  # fmt: skip
"""Kind → values."""
VALUES["teacher"] = [each for each in VALUES["weights"] if "vfm" not in each.label]
VALUES["run"] = [
    Value("alone", ("a",)),
    *(Value(f"a {each.label}", ("a", *each.tokens)) for each in paths("", ".json", also=("{world}/photos", "foo"))),
    *(Value(f"a {name}", ("a", f"{{world}}/{name}")) for name in ("photos.json", "regions.json", "catseg.yaml")),
]
VALUES["results"] = [
    *VALUES["run"],
    Value("a dense", ("a", "{world}/dense")),
    *(Value(f"a {side}=", ("a", f"{side}={{world}}/dense")) for side in ("", "x", "-1", "1.5", "9" * 9, LONG)),
]
VALUES["training"] = [
    *VALUES["overrides"],
    *(Value(f"OUTPUT_DIR {folder.label}", ("OUTPUT_DIR", *folder.tokens)) for folder in VALUES["folder"]),
]
