import pytest
import torch

from d2host import comm
from d2host.engine.errors import ConfigError, OutputError
from d2host.engine.tensor_cache import HEADER, TensorCache

SETTINGS = {"timestep": 45, "layers": ["up_blocks.3"]}
SHAPES = {"map": (6, 6)}


def cache(folder, settings=SETTINGS, limit=10**6):
    return TensorCache(folder, settings, limit, "MODEL.CACHE")


def test_tensors_are_kept_in_half_precision_and_found_by_another_run(tmp_path):
    given = {"map": torch.rand(6, 6), "other": torch.rand(3)}
    cache(tmp_path).put("00ff", given)
    found = cache(tmp_path).get("00ff", {"map": (6, 6), "other": (3,)})
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], given[name].half()) for name in given)


@pytest.mark.parametrize("shapes", [{"map": (7, 7)}, {"else": (6, 6)}, {"map": (6, 6), "other": (3,)}, {}])
def test_what_is_of_other_names_or_shapes_counts_as_none(tmp_path, shapes):
    cache(tmp_path).put("00ff", {"map": torch.rand(6, 6)})
    assert cache(tmp_path).get("00ff", shapes) is None
    assert cache(tmp_path).get("00fe", SHAPES) is None


def test_other_settings_are_refused_with_what_differs(tmp_path):
    cache(tmp_path)
    with pytest.raises(ConfigError, match=r"\(MODEL.CACHE\) was filled .* settings \(timestep 45, not 40\): give"):
        cache(tmp_path, {**SETTINGS, "timestep": 40})
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match=r"\(they are damaged\)"):
        cache(tmp_path)


def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path):
    kept = cache(tmp_path)
    kept.put("00ff", {"map": torch.eye(6)})
    (file,) = tmp_path.glob("00/*.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    assert kept.get("00ff", SHAPES) is None
    kept.put("00ff", {"map": torch.eye(6)})
    assert torch.equal(kept.get("00ff", SHAPES)["map"], torch.eye(6).half())
    assert [path.name for path in tmp_path.glob("00/*")] == ["00ff.safetensors"]


def test_it_does_not_outgrow_its_limit_also_over_several_runs(tmp_path, caplog):
    size = 2 * 36 + HEADER
    for run in range(2):
        kept = cache(tmp_path, limit=3 * size)
        for image in range(3):
            kept.put(f"{run}{image}", {"map": torch.eye(6)})
    assert len(list(tmp_path.glob("*/*.safetensors"))) in (3, 4)
    assert sum(file.stat().st_size for file in tmp_path.glob("*/*.safetensors")) <= 3 * size
    assert caplog.text.count("is full: nothing further is kept there") == 1


def test_processes_share_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 4)
    assert cache(tmp_path, limit=1000).left == 250


def test_a_folder_that_cannot_be_written_is_an_error_of_output(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        cache(tmp_path / "file" / "folder")
