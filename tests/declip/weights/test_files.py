import pickle

import pytest
import torch

import declip
from d2host.engine.checkpoint_file import describe_mismatch
from d2host.engine.errors import CheckpointError, ConfigError
from declip.models.factory import create_clip
from declip.models.weights import save_encoder
from declip.weights.files import is_weight_file, read_metadata, read_state_dict


def images():
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def same(first, second):
    return all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))


def test_saved_weights_need_no_repeated_options(tmp_path):
    encoder = declip.build_encoder("nano", "random", context="k", attention_scale="none")
    path = save_encoder(encoder, tmp_path / "new" / "w.safetensors", iterations=3)
    loaded = declip.build_encoder("nano", weights=str(path))
    assert same(encoder, loaded)
    assert (loaded.context, loaded.attention_scale) == (encoder.context, encoder.attention_scale)
    assert read_metadata(path)["iterations"] == 3
    torch.testing.assert_close(loaded.encode_dense(images()).content, encoder.encode_dense(images()).content)


def test_an_option_given_by_hand_beats_the_files(tmp_path):
    path = save_encoder(declip.build_encoder("nano", "random", context="k"), tmp_path / "w.safetensors")
    assert declip.build_encoder("nano", weights=str(path), context="v").context.value == "v"


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_plain_open_clip_state_dicts_load_with_their_wrappers(tmp_path, wrap, prefix):
    clip = create_clip("nano").clip
    torch.save(wrap({prefix + key: value for key, value in clip.state_dict().items()}), tmp_path / "clip.pt")
    assert same(declip.build_encoder("nano", weights=str(tmp_path / "clip.pt")).clip, clip)


def test_saving_is_atomic(tmp_path, monkeypatch):
    path = save_encoder(declip.build_encoder("nano", "random"), tmp_path / "w.safetensors")
    before = path.read_bytes()
    monkeypatch.setattr("declip.weights.files.save_file", failing_write)
    with pytest.raises(CheckpointError, match=r"could not be written to .*w\.safetensors .*No space left"):
        save_encoder(declip.build_encoder("nano", "random"), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def failing_write(tensors, path, metadata):
    with open(path, "wb") as file:
        file.write(b"half")
    raise OSError(28, "No space left on device")


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_pickle_with_code_is_refused(tmp_path, capsys):
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt cannot be read .*: it is damaged or holds more than tensors"):
        read_state_dict(tmp_path / "evil.pt")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_truncated_files_are_named(tmp_path, name):
    path = tmp_path / name
    if name.endswith("pt"):
        torch.save(create_clip("nano").clip.state_dict(), path)
    else:
        save_encoder(declip.build_encoder("nano", "random"), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=rf"{name}"):
        declip.build_encoder("nano", weights=str(path))


def test_files_without_a_state_dict_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match=r"list\.pt holds no state dict of tensors"):
        read_state_dict(tmp_path / "list.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match=r"old\.pt"):
        read_state_dict(tmp_path / "old.pt")


def test_weights_of_another_model_are_refused_by_name_and_by_tensors(tmp_path):
    encoder = declip.build_encoder("nano", "random")
    encoder.name = "ViT-B-16"
    path = save_encoder(encoder, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"holds weights of 'ViT-B-16', not of 'nano'"):
        declip.build_encoder("nano", weights=str(path))
    state = create_clip("nano").clip.state_dict()
    state.pop("logit_scale")
    state["extra"] = torch.zeros(1)
    state["visual.proj"] = torch.eye(2)
    torch.save(state, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match=r"1 missing \(logit_scale\); 1 unexpected \(extra\); 1 of wrong shape"):
        declip.build_encoder("nano", weights=str(tmp_path / "foreign.pt"))


def test_a_long_mismatch_is_cut():
    words = describe_mismatch({f"k{index}": torch.zeros(1) for index in range(9)}, {}, limit=2)
    assert words == "9 missing (k0, k1 and 7 more)"


def test_paths_are_told_from_tags():
    assert is_weight_file("weights/x") and is_weight_file("x.pt") and not is_weight_file("openai")


@pytest.mark.parametrize("name", ["n" * 5000, "n" * 5000 + ".pth", "a\x00b.pth", "a\x00b", ".", "..", "/", "", " "])
def test_names_that_no_file_can_have_are_no_weights(name):
    with pytest.raises((CheckpointError, ConfigError)):
        declip.build_encoder("nano", name)
    with pytest.raises(CheckpointError):
        read_state_dict(name)
