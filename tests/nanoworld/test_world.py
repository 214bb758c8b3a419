import numpy as np
import pytest

from nanoworld.captions import caption_scene
from nanoworld.vocabulary import CLASSES, COLORS, SEEN_CLASSES, SHAPES, STUFF, THINGS, UNSEEN_CLASSES
from nanoworld.world import class_color, render_scene


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(0, index) for index in range(60)]


def test_a_scene_depends_on_seed_and_index_alone(scenes):
    again = render_scene(0, 7)
    assert (again.image == scenes[7].image).all() and again.segments == scenes[7].segments
    assert (render_scene(1, 7).image != again.image).any()


def test_images_and_labels_are_what_they_say(scenes):
    for scene in scenes:
        assert scene.image.shape == (128, 128, 3) and scene.image.dtype == np.uint8
        assert scene.segment_ids.max() == len(scene.segments) - 1
        for index, segment in enumerate(scene.segments):
            mask = scene.segment_ids == index
            rows, columns = np.nonzero(mask)
            assert segment.area == mask.sum() > 0
            assert segment.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert segment.is_thing == (segment.name in THINGS)


def test_scenes_have_several_stuffs_and_things_that_hide_one_another(scenes):
    assert all(2 <= sum(not segment.is_thing for segment in scene.segments) <= 4 for scene in scenes)
    assert np.mean([sum(segment.is_thing for segment in scene.segments) for scene in scenes]) > 3


def test_colours_of_things_are_recognisable(scenes):
    """The mean colour of a large thing is nearer to its own colour than to most others."""
    right = total = 0
    for scene in scenes:
        for index, segment in enumerate(scene.segments):
            if segment.is_thing and segment.area > 300:
                mean = scene.image[scene.segment_ids == index].mean(axis=0)
                distances = {name: np.linalg.norm(mean - np.array(color)) for name, color in COLORS.items()}
                right += sorted(distances, key=distances.get).index(segment.name.split()[0]) < 2
                total += 1
    assert right / total > 0.85


def test_labels_outside_the_vocabulary_are_ignored(scenes):
    seen = scenes[0].class_map(SEEN_CLASSES)
    full = scenes[0].class_map(CLASSES)
    for label in np.unique(full):
        expected = SEEN_CLASSES.index(CLASSES[label]) if CLASSES[label] in SEEN_CLASSES else 255
        assert (seen[full == label] == expected).all()


def test_unseen_classes_are_new_pairs_of_known_colours_and_shapes():
    assert len(UNSEEN_CLASSES) == 12 and not set(UNSEEN_CLASSES) & set(SEEN_CLASSES)
    seen_words = {word for name in SEEN_CLASSES for word in name.split()}
    assert seen_words >= {*COLORS, *SHAPES, *STUFF}


def test_things_can_be_restricted(scenes):
    for index in range(20):
        names = {segment.name for segment in render_scene(5, index, things=("red ring",)).segments}
        assert names <= {"red ring", *STUFF}


def test_captions_name_things_of_their_scene(scenes):
    for index, scene in enumerate(scenes[:20]):
        caption = caption_scene(scene, 0, index)
        assert caption == caption_scene(scene, 0, index)
        assert any(segment.name in caption for segment in scene.segments)


def test_class_colours_are_distinct():
    assert len({class_color(name) for name in CLASSES}) == len(CLASSES)
