"""The page about pictures: its program runs, and its pictures are there and small."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = Path(__file__).resolve().parents[3] / "docs/pictures.md"
NAMES = ("attention", "proxy-tokens", "correlation", "segmentation", "dataset", "training", "resolution")


def test_the_program_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("scene.png")
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(program, {})
    assert Path("attention.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_is_shown_and_small(name):
    (shown,) = re.findall(rf"!\[[^\]]+\]\((images/{name}\.\w+)\)", PAGE.read_text(encoding="utf-8"))
    assert (PAGE.parent / shown).stat().st_size < 150_000
