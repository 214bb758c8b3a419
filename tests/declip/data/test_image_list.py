import multiprocessing
import pickle

import numpy as np
import pytest
from PIL import Image

from declip.data import image_list
from declip.data.image_list import ImageList, ImageRecord


def test_a_list_gives_back_its_names_in_order(monkeypatch):
    monkeypatch.setattr(image_list, "AT_ONCE", 3)
    names = ["a.jpg", "", "caf\N{LATIN SMALL LETTER E WITH ACUTE}.png", "/absolute.jpg", "odd\udc80.jpg", "\ud800", "z"]
    images = ImageList(names, "root")
    assert [image.path for image in images] == [f"/{name[1:]}" if name[:1] == "/" else f"root/{name}" for name in names]
    assert images[-1] == images[len(names) - 1] == ImageRecord("root/z")
    with pytest.raises(IndexError):
        images[len(names)]
    assert not ImageList([]) and ImageList(["x"])[np.int64(0)].path == "x"


def first_name(images, queue):
    queue.put(images[0].path)


def test_processes_share_a_list_however_they_are_started():
    images = ImageList([f"{number:020d}.jpg" for number in range(50_000)])
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=first_name, args=(images, queue))
    process.start()
    assert queue.get(timeout=60) == images[0].path
    process.join()
    assert len(bytes(multiprocessing.reduction.ForkingPickler.dumps(images))) < 1000


def test_large_jpegs_are_decoded_smaller_but_never_below_the_wanted_side(tmp_path):
    Image.fromarray(np.zeros((400, 800, 3), np.uint8)).save(tmp_path / "big.jpg")
    record = ImageRecord(str(tmp_path / "big.jpg"))
    assert record.read().shape == (3, 400, 800)
    assert record.read(least_side=100).shape == (3, 100, 200)
    assert pickle.loads(pickle.dumps(record)) == record
