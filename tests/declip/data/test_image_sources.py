import json

import numpy as np
import pytest
import torch
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.image_sources import list_images
from declip.distill.dataset import DistillationDataset, UnreadableImages
from declip.distill.views import DistillationViews, ViewSizes
from declip.plugins import Plugin, PluginDataset


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images" / "deep"
    images.mkdir(parents=True)
    for index in range(4):
        Image.fromarray(np.full((20, 30, 3), index * 50, np.uint8)).save(images / f"{index}.png")
    (images / "notes.txt").write_text("not an image")
    return images


def names(records):
    return [record.path.rsplit("/", 1)[-1] for record in records]


def test_a_folder_is_searched_recursively_in_order(folder):
    assert names(list_images(str(folder.parent))) == ["0.png", "1.png", "2.png", "3.png"]


def test_a_coco_json_and_a_text_list_name_files_relative_to_a_root(folder):
    (folder / "coco.json").write_text(json.dumps({"images": [{"file_name": "2.png"}, {"file_name": "0.png"}]}))
    assert names(list_images(str(folder / "coco.json"))) == ["2.png", "0.png"]
    listing = folder.parent / "list.txt"
    listing.write_text("# chosen\n1.png\n\n3.png\n")
    records = list_images(str(listing), image_root=str(folder))
    assert names(records) == ["1.png", "3.png"] and records[0].read().shape == (3, 20, 30)


def test_the_dataset_of_a_plugin_is_a_source(tmp_path, monkeypatch):
    few = PluginDataset(lambda root: [{"file_name": str(root / "0.png")}, {"file_name": str(root / "1.png")}], dict)
    monkeypatch.setattr("declip.plugins.installed_plugins", lambda: (Plugin(datasets={"few": few}),))
    assert [record.path for record in list_images("few", root=tmp_path)] == [f"{tmp_path}/0.png", f"{tmp_path}/1.png"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lists_from_other_systems_are_read(mark, end, folder):
    (folder / "list.txt").write_bytes(mark + b"# chosen" + end + b"1.png" + end + end + b" 3.png ")
    (folder / "coco.json").write_bytes(
        mark + b'{"images":' + end + b'[{"file_name": "1.png"}, {"file_name": "3.png"}]}'
    )
    for name in ("list.txt", "coco.json"):
        assert names(list_images(str(folder / name))) == ["1.png", "3.png"]


def test_an_image_is_a_source_of_one(folder):
    assert names(list_images(str(folder / "2.png"))) == ["2.png"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize("name", ["list.txt", "coco.json"])
def test_lists_that_are_no_utf_8_are_refused(name, encoding, tmp_path):
    (tmp_path / name).write_bytes('{"images": [{"file_name": "caf\xe9.png"}]}'.encode(encoding))
    with pytest.raises(DataError, match=rf"{name} is no UTF-8 text"):
        list_images(str(tmp_path / name))


@pytest.mark.parametrize(
    "content",
    ["", "null", "[]", "7", '"images"', "{", "{}", '{"images": 7}', '{"images": {}}', '{"images": [7]}', "[" * 10**5]
    + [f'{{"images": [{{"file_name": {value}}}]}}' for value in ("null", "7", '""', "[]", '" "')],
)
def test_json_of_another_shape_gets_one_sentence(content, tmp_path):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json is no (COCO annotation file|JSON)"):
        list_images(str(tmp_path / "x.json"))


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.zip", "X.ZIP", "x.tar.bz2", "x.tar.zst"])
def test_compressed_archives_are_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(DataError, match=r"is compressed.*: unpack it"):
        list_images(str(tmp_path / name))


@pytest.mark.parametrize("source", ["", "gone", "gone.txt", "gone.json", "n" * 10_000, "a\0b"])
def test_sources_that_are_not_there_are_refused(source):
    with pytest.raises(DataError, match="does not exist"):
        list_images(source)


def test_a_root_that_is_no_folder_is_refused(folder):
    (folder / "list.txt").write_text("1.png")
    with pytest.raises(DataError, match="is no folder: give another image root"):
        list_images(str(folder / "list.txt"), image_root=str(folder / "gone"))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.json", '{"annotations": []}', "is no COCO annotation file"),
        ("none.txt", "\n", "no image found in"),
    ],
)
def test_sources_without_images_are_refused(name, content, sentence, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=sentence):
        list_images(str(tmp_path / name))


def test_a_missing_source_names_the_kinds_there_are(tmp_path):
    with pytest.raises(DataError, match="does not exist: give a folder, a COCO"):
        list_images(str(tmp_path / "gone"))


def dataset(records):
    return DistillationDataset(records, DistillationViews(ViewSizes(32, 16, 14, 16)), seed=0)


def test_a_sample_depends_on_epoch_and_index_alone(folder):
    samples = dataset(list_images(str(folder)))
    first, again, other = samples[0, 2], samples[0, 2], samples[1, 2]
    assert torch.equal(first["crops"], again["crops"]) and torch.equal(first["boxes"], again["boxes"])
    assert torch.equal(first["student"], other["student"])
    boxes = {tuple(samples[epoch, 2]["boxes"].flatten().tolist()) for epoch in range(20)}
    assert len(boxes) > 3


def test_an_unreadable_image_is_replaced_by_the_next_and_named(folder):
    (folder / "1.png").write_bytes(b"no image")
    sample = dataset(list_images(str(folder)))[0, 1]
    assert sample["file_name"].endswith("2.png")
    assert "1.png cannot be read" in next(iter(sample["unreadable"].values()))


def test_more_than_one_percent_unreadable_stops():
    few = UnreadableImages(200)
    few.add([{"unreadable": {"a": "a is bad"}}, {"unreadable": {"a": "a is bad", "b": "b is bad"}}])
    with pytest.raises(DataError, match="3 of 200 images cannot be read, more than 1%: repair the source"):
        few.add([{"unreadable": {"c": "c is bad"}}])
