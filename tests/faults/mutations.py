"""Bytes and structures spoilt at random, the same way for the same seed."""

import random


def spoil(content, seed):
    """One of eight kinds of damage to a file's bytes."""
    chance = random.Random(seed)
    size = len(content)
    # half of the places are in the first and last 512 bytes, where formats keep what describes the rest
    near = chance.choice((0, max(size - 512, 0)))
    place = chance.randrange(near, min(near + 512, size) + 1) if chance.random() < 0.5 else chance.randrange(size + 1)
    length = chance.choice((1, 4, 16, 256, 4096))
    head, block, tail = content[:place], content[place : place + length], content[place + length :]
    damage = seed % 8
    if damage == 0:
        return head  # cut off
    if damage == 1:
        return head + bytes(len(block)) + tail
    if damage == 2:
        return head + bytes(byte ^ (1 << chance.randrange(8)) for byte in block) + tail
    if damage == 3:
        return head + block + block + tail
    if damage == 4:
        return head + chance.randbytes(length) + block + tail
    if damage == 5:
        return head + tail
    if damage == 6:
        return head + b"\xff" * len(block) + tail
    return head + chance.randbytes(len(block)) + tail


ODD = (None, -1, 0, 10**30, 1e400, 0.5, "", "foo", [], {}, [None], {"id": None}, True)


def variants(content):
    """A JSON-like value with one of its parts missing or replaced by something of another shape, part by part.

    Yields:
        where and what, the changed value.
    """
    for odd in ODD:
        yield f"= {odd!r}", odd
    yield from _inside(content, "")


def _inside(content, where):
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, part in entries:

        def changed(other, key=key):
            copy = dict(content) if isinstance(content, dict) else list(content)
            copy[key] = other
            return copy

        without = dict(content) if isinstance(content, dict) else list(content)
        del without[key]
        yield f"{where}.{key} gone", without
        for odd in ODD:
            if type(odd) is not type(part) or odd != part:
                yield f"{where}.{key} = {odd!r}", changed(odd)
        for below, other in _inside(part, f"{where}.{key}"):
            yield below, changed(other)
