"""The archive and the index of ADE20K, whole, damaged, and of another kind."""

import os
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.folder_dataset import UNFINISHED
from declip.data.preparation import ade20k
from declip.data.preparation.ade20k import object_names, prepare_ade20k_150, prepare_ade20k_847


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_spoilt_index_is_read_or_one_sentence(tmp_path, spoilt, protocol):
    index = {"objectnames": ["-", "door", "wall"], "counts": np.zeros((3, 4)), "mixed": np.array(["a", None], object)}
    (tmp_path / "i.pkl").write_bytes(content := pickle.dumps(index, protocol=protocol))
    assert object_names(tmp_path / "i.pkl") == ["-", "door", "wall"]
    for data in spoilt(content, 150, protocol):
        (tmp_path / "i.pkl").write_bytes(data)
        try:
            object_names(tmp_path / "i.pkl")
        except DataError as error:
            assert "is no index of ADE20K" in str(error)


def nested(depth):
    """Lists of lists whose text would double with each."""
    value = ["x"]
    for _ in range(depth):
        value = [value, value]
    return value


ODD_INDICES = {
    "a list": [1], "null": None, "a map without names": {}, "a text for names": {"objectnames": "door"},
    "a number for names": {"objectnames": 5}, "numbers": {"objectnames": [1, 2]}, "none": {"objectnames": []},
    "lists of lists": {"objectnames": nested(60)}, "numbers of numpy": {"objectnames": np.arange(3)},
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_INDICES)
def test_an_index_of_another_shape_is_refused(tmp_path, kind):
    (tmp_path / "i.pkl").write_bytes(pickle.dumps(ODD_INDICES[kind]))
    with pytest.raises(DataError, match="is no index of ADE20K"):
        object_names(tmp_path / "i.pkl")


def test_names_in_an_array_are_names_and_a_memo_of_any_length_is_not_made(tmp_path):
    path = tmp_path / "i.pkl"
    path.write_bytes(pickle.dumps({"objectnames": np.array(["-", "door"], object)}))
    assert object_names(path) == ["-", "door"]
    path.write_bytes(b"\x80\x04]r\xff\xff\xff\x7f.")  # LONG_BINPUT 2147483647
    with pytest.raises(DataError, match="a memo of 2,147,483,647"):
        object_names(path)


def archive(root, files, **options):
    with zipfile.ZipFile(root / "ADEChallengeData2016.zip", "w", **options) as content:
        for name, data in files.items():
            content.writestr(name, data)


ADE = {
    f"ADEChallengeData2016/{kind}/{number}.{suffix}": bytes([number]) * 90
    for kind, suffix in (("images/validation", "jpg"), ("annotations/validation", "png"))
    for number in range(3)
}


def test_an_archive_is_unpacked_once_and_what_is_missing_again(tmp_path):
    archive(tmp_path, {**ADE, "__MACOSX/._x": b"left out"})
    assert sum(prepare_ade20k_150(tmp_path, 1).values()) == 6
    assert all((tmp_path / name).read_bytes() == data for name, data in ADE.items())
    assert not (tmp_path / "__MACOSX").exists() and not list(tmp_path.rglob(UNFINISHED))
    (tmp_path / next(iter(ADE))).write_bytes(b"cut")
    assert prepare_ade20k_150(tmp_path, 1) == {"ADEChallengeData2016/images/validation": 1}
    assert sum(prepare_ade20k_150(tmp_path, 1).values()) == 0


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "ADEChallengeData2016/../../out.png"])
def test_an_archive_that_leads_out_of_its_folder_is_refused_before_a_file_is_written(tmp_path, name):
    (tmp_path / "in").mkdir()
    archive(tmp_path / "in", {**ADE, name: b"x"})
    with pytest.raises(DataError, match="leads out of its folder"):
        prepare_ade20k_150(tmp_path / "in", 1)
    assert os.listdir(tmp_path) == ["in"] and os.listdir(tmp_path / "in") == ["ADEChallengeData2016.zip"]


def test_bombs_encrypted_and_other_archives_are_refused(tmp_path, monkeypatch):
    archive(tmp_path, {"else/1.png": b"x"})
    with pytest.raises(DataError, match="holds no ADEChallengeData2016"):
        prepare_ade20k_150(tmp_path, 1)
    archive(tmp_path, ADE, compression=zipfile.ZIP_BZIP2)
    with pytest.raises(DataError, match="compressed in an unusual way"):
        prepare_ade20k_150(tmp_path, 1)
    archive(tmp_path, ADE)
    data = bytearray((tmp_path / "ADEChallengeData2016.zip").read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1  # encrypted, says the directory
    (tmp_path / "ADEChallengeData2016.zip").write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        prepare_ade20k_150(tmp_path, 1)
    archive(tmp_path, ADE)
    monkeypatch.setattr(ade20k, "MOST_BYTES", 80)
    with pytest.raises(DataError, match="would unpack to 540 bytes, a file of 90 among them"):
        prepare_ade20k_150(tmp_path, 1)
    monkeypatch.undo()
    monkeypatch.setattr(ade20k.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(DataError, match="unpacks to 540 bytes, 100 are free"):
        prepare_ade20k_150(tmp_path, 1)
    assert os.listdir(tmp_path) == ["ADEChallengeData2016.zip"]


def test_a_spoilt_archive_is_unpacked_or_one_sentence_and_never_half_a_file(tmp_path, spoilt):
    archive(tmp_path, ADE, compression=zipfile.ZIP_DEFLATED)
    content = (tmp_path / "ADEChallengeData2016.zip").read_bytes()
    for number, data in enumerate(spoilt(content, 120)):
        root = tmp_path / str(number)
        root.mkdir()
        (root / "ADEChallengeData2016.zip").write_bytes(data)
        try:
            prepare_ade20k_150(root, 1)
        except DataError as error:
            assert str(root) in str(error)
        for file in root.rglob("*.[jp][pn]g"):
            assert len(file.read_bytes()) == 90


def test_an_image_and_a_label_of_the_full_ade20k_that_differ_in_size_are_refused(tmp_path):
    folder = tmp_path / "ADE20K_2021_17_01"
    names = ade20k.load_class_list("ade20k_847")
    folder.mkdir()
    (folder / "index_ade20k.pkl").write_bytes(pickle.dumps({"objectnames": names}))
    save(folder / "images/ADE/validation/street/1.jpg", np.zeros((600, 800, 3), np.uint8))
    save(folder / "images/ADE/validation/street/1_seg.png", np.zeros((300, 400, 3), np.uint8))
    with pytest.raises(DataError, match=r"1_seg\.png is 400x300, its image .*1\.jpg is 800x600"):
        prepare_ade20k_847(tmp_path, 1)
    assert not list(folder.glob("images_detectron2/validation/*.jpg"))
