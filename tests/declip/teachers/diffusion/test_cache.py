import pytest
import torch

from d2host import comm
from d2host.engine.errors import ConfigError, OutputError
from declip.teachers.diffusion import AttentionCache

SETTINGS = {"timestep": 45, "layers": ["up_blocks.3"]}


def cache(folder, settings=SETTINGS, limit=10**6):
    return AttentionCache(folder, settings, limit)


def test_maps_are_kept_in_half_precision_and_found_by_another_run(tmp_path):
    attention = torch.rand(6, 6)
    cache(tmp_path).put("00ff", attention)
    assert torch.equal(cache(tmp_path).get("00ff", 6), attention.half())
    assert cache(tmp_path).get("00fe", 6) is None
    assert cache(tmp_path).get("00ff", 7) is None  # of another grid


def test_other_settings_are_refused_with_what_differs(tmp_path):
    cache(tmp_path)
    with pytest.raises(ConfigError, match=r"DIFFUSION.CACHE\) holds .* other settings \(timestep 45, not 40\): give"):
        cache(tmp_path, {**SETTINGS, "timestep": 40})
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match=r"\(they are damaged\)"):
        cache(tmp_path)


def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path):
    kept = cache(tmp_path)
    kept.put("00ff", torch.eye(6))
    (file,) = tmp_path.glob("00/*.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    assert kept.get("00ff", 6) is None
    kept.put("00ff", torch.eye(6))
    assert torch.equal(kept.get("00ff", 6), torch.eye(6).half())
    assert [path.name for path in tmp_path.glob("00/*")] == ["00ff.safetensors"]


def test_it_does_not_outgrow_its_limit_also_over_several_runs(tmp_path, caplog):
    size = 2 * 36 + 256
    for run in range(2):
        kept = cache(tmp_path, limit=3 * size)
        for image in range(3):
            kept.put(f"{run}{image}", torch.eye(6))
    assert len(list(tmp_path.glob("*/*.safetensors"))) in (3, 4)
    assert sum(file.stat().st_size for file in tmp_path.glob("*/*.safetensors")) <= 3 * size
    assert caplog.text.count("is full: further attention maps are not kept") == 1


def test_processes_share_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 4)
    assert cache(tmp_path, limit=1000).left == 250


def test_a_folder_that_cannot_be_written_is_an_error_of_output(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        cache(tmp_path / "file" / "folder")
