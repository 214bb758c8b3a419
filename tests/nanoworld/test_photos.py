import numpy as np
import pytest

from nanoworld.photos import cut_out, enlarged_window, square_window, take_photos
from nanoworld.vocabulary import CLASSES
from nanoworld.world import render_scene


@pytest.fixture(scope="module")
def photos():
    return [
        (scene, take_photos(scene, np.random.default_rng(index), 6, 64))
        for index, scene in enumerate(render_scene(7, index) for index in range(30))
    ]


def test_a_scene_gives_one_photo_of_all_of_it_and_close_ups(photos):
    for scene, taken in photos:
        assert len(taken) == min(6, 1 + len(scene.segments))
        assert all(photo.image.shape == (64, 64, 3) and photo.image.dtype == np.uint8 for photo in taken)
        whole = cut_out(scene.image, (0, 0, 128, 128), 64)
        assert (taken[0].image == whole).all() or (taken[0].image == whole[:, ::-1]).all()


def test_captions_name_what_the_scene_holds_and_at_most_three_things(photos):
    for scene, taken in photos:
        present = {segment.name for segment in scene.segments}
        for photo in taken:
            named = [name for name in CLASSES if name in photo.caption]
            assert set(named) <= present and (named or "something" in photo.caption)
            assert sum(photo.caption.count(name) for name in present if " " in name) <= 3


def test_most_close_ups_say_something(photos):
    captions = [photo.caption for _, taken in photos for photo in taken]
    assert np.mean(["something" in caption for caption in captions]) < 0.05


def test_windows_are_squares_inside_the_image(photos):
    assert square_window((2, 126), 40, 128) == (0, 88, 40, 128)
    assert square_window((64, 64), 500, 128) == (0, 0, 128, 128)
    for scene, _ in photos:
        for segment in scene.segments:
            x0, y0, x1, y1 = enlarged_window(segment, 1.5, 128)
            assert x1 - x0 == y1 - y0 and min(x0, y0) >= 0 and max(x1, y1) <= 128
