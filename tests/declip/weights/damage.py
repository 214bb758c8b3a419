"""Weight files of every kind, and byte mutations of them."""

import random

import torch
from safetensors.torch import save_file
from torch import nn

from declip.weights.files import FORMAT


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


def mutations(content, count, seed):
    """``count`` damaged versions of a file: flipped bits, zeroed, repeated, removed and cut off at any place.

    Half of the places are within the first 600 bytes, where headers are, or the last 300.
    """
    rng = random.Random(seed)
    for _ in range(count):
        where = rng.choice([rng.randrange(len(content)), rng.randrange(min(600, len(content)))])
        if rng.random() < 0.2:
            where = max(len(content) - 1 - rng.randrange(300), 0)
        length, damaged = rng.choice([1, 1, 2, 8, 64]), bytearray(content)
        kind = rng.choice(["flip", "random", "zero", "ones", "repeat", "remove", "cut"])
        if kind == "flip":
            damaged[where] ^= 1 << rng.randrange(8)
        elif kind == "random":
            damaged[where : where + length] = rng.randbytes(length)
        elif kind in ("zero", "ones"):
            damaged[where : where + length] = bytes([0 if kind == "zero" else 255]) * length
        elif kind == "repeat":
            damaged[where:where] = damaged[where : where + length]
        elif kind == "remove":
            del damaged[where : where + length]
        else:
            del damaged[where:]
        yield bytes(damaged)
