"""The example of the page for users runs as it stands."""

import re

import numpy as np
from PIL import Image

from nanoworld.world import render_scene


def test_the_python_of_the_page_for_users_runs(repository, tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (repository / "docs/using.md").read_text(), re.DOTALL)[1]
    Image.fromarray(render_scene(77, 2).image).save(tmp_path / "scene.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert Image.open("out.png").size == (128, 128)
    assert set(np.unique(names["result"].labels)) == {0, 1, 2, 3}
