"""Views of images in shards, lane by lane."""

import io
import tarfile
from itertools import islice

import pytest
import torch
from PIL import Image

from d2host.engine.errors import DataError
from d2host.engine.lanes import Place
from declip.distill.dataset import ShardedViews, UnreadableImages
from declip.distill.views import DistillationViews, ViewSizes

VIEWS = DistillationViews(ViewSizes(32, 16, 14, 16))


@pytest.fixture
def write(tmp_path):
    """Writes a shard of images by their shades; None is one that cannot be read."""

    def make(name, shades):
        with tarfile.open(tmp_path / name, "w") as shard:
            for number, shade in enumerate(shades):
                content = io.BytesIO()
                if shade is not None:
                    Image.new("L", (40, 32), shade).save(content, "PNG")
                info = tarfile.TarInfo(f"{number}.png")
                info.size = len(content.getvalue())
                shard.addfile(info, io.BytesIO(content.getvalue()))
        return str(tmp_path / name)

    return make


def taken(views, lane, number, place=None):
    return list(islice(views(lane, place or Place()), number))


def shades(samples):
    return [int(sample["student"].float().mean().round()) for sample in samples]


def test_every_image_is_seen_once_in_an_epoch(write):
    shards = [write(f"{shard}.tar", range(10 * shard, 10 * shard + 5)) for shard in range(6)]
    views = ShardedViews(shards, 2, VIEWS, seed=0)
    everything = [10 * shard + image for shard in range(6) for image in range(5)]
    for epoch in range(2):
        found = [shade for lane in range(2) for shade in shades(taken(views, lane, 15, Place(3 * epoch)))]
        assert sorted(found) == everything
        assert found != everything
    assert shades(taken(views, 0, 15)) != shades(taken(views, 0, 15, Place(3)))


def test_lanes_share_shards_where_there_are_few(write, caplog):
    views = ShardedViews([write("a.tar", range(0, 9)), write("b.tar", range(20, 29))], 4, VIEWS, seed=0)
    assert "2 shards for batches of 4 images: each is read by 2 lanes" in caplog.text
    lanes = [taken(views, lane, 30) for lane in range(4)]
    first = [sample for lane in lanes for sample in lane if sample["place"].shard == 0]
    assert sorted(shades(first)) == [*range(9), *range(20, 29)]


@pytest.mark.parametrize("sharing", [1, 3])
def test_a_lane_goes_on_from_every_place(sharing, write):
    views = ShardedViews([write("a.tar", range(7)), write("b.tar", [50, None, 52])], 2 * sharing, VIEWS, seed=3)
    whole = taken(views, 1, 20)
    for done in range(1, 20):
        rest = taken(views, 1, 20 - done, whole[done - 1]["place"])
        assert shades(rest) == shades(whole[done:])
        assert all(torch.equal(one["crops"], other["crops"]) for one, other in zip(rest, whole[done:], strict=True))


def test_an_unreadable_image_is_left_out_and_named(write):
    shard = write("a.tar", [7, None, 9])
    samples = taken(ShardedViews([shard], 1, VIEWS, seed=0), 0, 3)
    assert shades(samples) == [7, 9, 7]
    assert [list(sample["unreadable"]) for sample in samples] == [[], [f"{shard}:1.png"], []]


@pytest.mark.parametrize(("content", "sentence"), [([], "no image found in 1 shards"), ([None] * 20, "16 images in a")])
def test_shards_without_images_end_a_training(content, sentence, write):
    with pytest.raises(DataError, match=sentence):
        taken(ShardedViews([write("a.tar", content)], 2, VIEWS, seed=0), 0, 1)


def test_crop_grids_differ_between_epochs(write):
    samples = taken(ShardedViews([write("a.tar", [9])], 1, VIEWS, seed=0), 0, 20)
    assert len({tuple(sample["boxes"].flatten().tolist()) for sample in samples}) > 3


def test_the_share_of_unreadable_images_is_of_those_seen_where_their_number_is_unknown():
    few = UnreadableImages(None)
    few.add([{"unreadable": {str(number): "bad" for number in range(10)}}])
    for _ in range(2000):
        few.add([{"unreadable": {}}])
    few.add([{"unreadable": {f"later {number}": "bad" for number in range(10)}}])
    with pytest.raises(DataError, match=r"21 of 20\d\d images cannot be read, more than 1%"):
        few.add([{"unreadable": {"last": "bad"}}])
