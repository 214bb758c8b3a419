import pytest
import torch

from d2host.engine.atomic import replacing
from declip.weights.files import save_tensors


def test_a_block_that_succeeds_replaces_the_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "new" / "file.json"
    for content in ("first", "second"):
        with replacing(path) as temporary:
            assert temporary.suffix == ".json"
            temporary.write_text(content)
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("first")
    with pytest.raises(ValueError, match="broken"), replacing(path) as temporary:
        temporary.write_text("half")
        raise ValueError("broken")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_weights_have_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    path = save_tensors({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors", {})
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
