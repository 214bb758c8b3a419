"""Panoptic annotations of another shape, and PNGs that are not those of the annotation."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.panoptic import load_panoptic, read_panoptic
from declip.data.region_sets import load_region_set

HEIGHT, WIDTH = 20, 30
CONTENT = {
    "images": [{"id": 7, "file_name": "1.png", "height": HEIGHT, "width": WIDTH}],
    "categories": [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}],
    "annotations": [
        {
            "image_id": 7,
            "file_name": "1.png",
            "segments_info": [
                {"id": 9, "category_id": 1, "area": 100, "bbox": [0, 0, 10, 10], "iscrowd": 0},
                {"id": 70_000, "category_id": 2, "area": 500, "bbox": [0, 0, 30, 20], "iscrowd": 0},
            ],
        }
    ],
}
ODD = {
    "null": None, "a text": "odd", "an empty text": "", "a list": [], "a map": {}, "nested": [[[]]], "true": True,
    "negative": -5, "huge": 10**30, "a fraction": 0.5, "a number as text": "7", "a path outside": "../../1.png",
    "an absolute path": "/etc/passwd", "a NUL": "a\0b", "half a surrogate": "\ud800", "infinite": 1e999,
}  # fmt: skip
NOT_REFUSED = {  # what may stand there: a value of another meaning that is possible, too
    "id": {"a text", "an empty text", "a number as text", "a path outside", "an absolute path", "negative"},
    "name": {"a text", "a number as text", "a path outside", "an absolute path"},
    "file_name": {"a text", "a number as text"},
    "annotations.0.file_name": {"a text", "a number as text", "null"},
    "segments_info": {"a list"}, 0: {"a fraction"}, 1: {"a fraction"},
    "isthing": {"true"}, "iscrowd": {"true", "null"},
    "area": {"a fraction"},
}  # fmt: skip


def places(value, path=()):
    """The paths of every value within a nested value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(path, change):
    """The content with one place changed: ``change`` takes its container and key."""
    content = {"root": copy.deepcopy(CONTENT)}
    container = content
    for key in ("root", *path)[:-1]:
        container = container[key]
    change(container, ("root", *path)[-1])
    return content["root"]


def write(folder, content):
    path = folder / "panoptic.json"
    path.write_text(json.dumps(content))
    return path


def refuse(folder, content):
    with pytest.raises(DataError, match=r"panoptic\.json is no ") as raised:
        load_panoptic(write(folder, content))
    assert len(str(raised.value)) < 400, raised.value


def test_the_content_itself_is_fine(tmp_path):
    assert load_panoptic(write(tmp_path, CONTENT)) == CONTENT


@pytest.mark.parametrize("path", list(places(CONTENT)), ids=lambda path: ".".join(map(str, path)) or "all")
def test_whatever_stands_in_a_place_is_refused_or_possible(tmp_path, path):
    for kind, odd in ODD.items():
        if path and kind in NOT_REFUSED.get(".".join(map(str, path)), NOT_REFUSED.get(path[-1], ())):
            continue
        refuse(tmp_path, changed(path, lambda container, key, odd=odd: container.__setitem__(key, odd)))


def test_missing_keys_are_refused_but_those_that_coco_has_optional(tmp_path):
    optional = {"iscrowd"}  # height and width are there together or not
    for path in places(CONTENT):
        is_key = path and isinstance(path[-1], str)
        if is_key and path[-1] not in optional and path != ("annotations", 0, "file_name"):
            refuse(tmp_path, changed(path, lambda container, key: container.pop(key)))


@pytest.mark.parametrize("name", ["images", "annotations", "categories"])
def test_what_is_listed_twice_is_refused(tmp_path, name):
    refuse(tmp_path, changed((name,), lambda container, key: container[key].append(container[key][0])))


def test_a_segment_listed_twice_and_a_category_of_no_list_are_refused(tmp_path):
    place = ("annotations", 0, "segments_info")
    refuse(tmp_path, changed(place, lambda container, key: container[key].append(container[key][0])))
    refuse(tmp_path, changed((*place, 0, "category_id"), lambda container, key: container.__setitem__(key, 3)))


@pytest.mark.parametrize("box", [[0, 0, 0, 10], [0, 0, 2, 2], [25, 0, 10, 10], [0, 15, 10, 10], [-9, 0, 10, 10]])
def test_boxes_without_room_for_their_region_or_outside_the_image_are_refused(tmp_path, box):
    place = ("annotations", 0, "segments_info", 0, "bbox")
    refuse(tmp_path, changed(place, lambda container, key: container.__setitem__(key, box)))


def test_many_segments_take_a_moment(tmp_path):
    segments = [{"id": n, "category_id": 1, "area": 100, "bbox": [0, 0, 10, 10]} for n in range(100_000)]
    place = ("annotations", 0, "segments_info")
    content = changed(place, lambda container, key: container.__setitem__(key, segments))
    assert len(load_panoptic(write(tmp_path, content))["annotations"][0]["segments_info"]) == 100_000


@pytest.fixture
def files(tmp_path):
    """An image, its panoptic PNG as ids, and the JSON file."""
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "1.png")
    (tmp_path / "panoptic").mkdir()
    ids = np.full((HEIGHT, WIDTH), 70_000)
    ids[:10, :10] = 9
    write(tmp_path, CONTENT)
    return tmp_path, ids


def save_ids(folder, ids, mode="RGB"):
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colors).convert(mode).save(folder / "panoptic/1.png")


def test_masks_are_those_of_the_png_and_an_alpha_channel_says_nothing(files):
    folder, ids = files
    for mode in ("RGB", "RGBA"):
        save_ids(folder, ids, mode)
        (image,) = load_region_set(str(folder / "panoptic.json")).images
        assert (image.masks().numpy() == (ids == np.array([9, 70_000])[:, None, None])).all()
        assert image.masks((10, 15)).sum(dim=(1, 2)).tolist() == [25, 125]


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1", "I;16", "F"])
def test_a_png_of_another_kind_is_refused(files, mode):
    folder, ids = files
    path = folder / ("panoptic/1.tif" if mode == "F" else "panoptic/1.png")
    array = (ids % 200).astype(np.uint16 if mode == "I;16" else np.uint8)
    (Image.fromarray(array) if mode == "I;16" else Image.fromarray(array).convert(mode)).save(path)
    with pytest.raises(DataError, match=r"label .*1\.(png|tif) "):
        read_panoptic(path)


@pytest.mark.parametrize("scale", [(0.5, 0.5), (2, 2), (0.5, 1), (1.05, 1)])
@pytest.mark.parametrize("resized", ["image", "png", "both"])
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
def test_an_image_or_a_png_of_another_size_is_refused_with_or_without_sizes_in_the_json(files, scale, resized, sized):
    """Nothing is scaled: nothing says that a file of another size shows the same."""
    folder, ids = files
    if not sized:
        unsized = [{key: value for key, value in CONTENT["images"][0].items() if key not in ("height", "width")}]
        write(folder, {**CONTENT, "images": unsized})
    save_ids(folder, ids)
    for name, kind in (("1.png", "image"), ("panoptic/1.png", "png")):
        if resized in (kind, "both"):
            with Image.open(folder / name) as image:
                size = [round(side * factor) for side, factor in zip(image.size, scale, strict=True)]
                image.resize(size, Image.Resampling.NEAREST).save(folder / name)
    (image,) = load_region_set(str(folder / "panoptic.json")).images
    if resized == "both" and not sized:  # the two agree, and the boxes alone tell
        if min(scale) >= 1:
            return
        with pytest.raises(DataError, match="boxes of its annotation leave it"):
            image.image()
        return
    with pytest.raises(DataError, match=r"is \d+x\d+, its "):
        image.image()
        image.masks()


def test_a_listed_segment_that_the_png_lacks_is_refused_and_an_unlisted_one_is_no_region(files):
    folder, ids = files
    save_ids(folder, np.where(ids == 9, 0, ids))
    (image,) = load_region_set(str(folder / "panoptic.json")).images
    with pytest.raises(DataError, match="lacks segment 9 that its annotation lists"):
        image.masks()
    ids[-1] = 3
    save_ids(folder, ids)
    assert image.masks().sum(dim=(1, 2)).tolist() == [100, 470]


def test_files_are_found_where_coco_has_them_and_otherwise_the_option_is_named(files):
    folder, ids = files
    save_ids(folder, ids)
    coco = folder / "coco"
    (coco / "annotations/panoptic_val2017").mkdir(parents=True)
    (coco / "val2017").mkdir()
    (folder / "1.png").rename(coco / "val2017/1.png")
    (folder / "panoptic/1.png").rename(coco / "annotations/panoptic_val2017/1.png")
    for name in ("panoptic_val2017.json", "regions_val2017.json"):
        (coco / "annotations" / name).write_text(json.dumps(CONTENT))
        (image,) = load_region_set(str(coco / "annotations" / name)).first(masks=True)
        assert image.image().shape == (3, HEIGHT, WIDTH) and image.masks().shape == (2, HEIGHT, WIDTH)
    with pytest.raises(DataError, match=r"were not found: 1\.png is in none of .*--image-root, TEST\.IMAGE_ROOT"):
        load_region_set(str(folder / "panoptic.json"))
    regions = load_region_set(str(folder / "panoptic.json"), image_root=str(folder))
    with pytest.raises(DataError, match=r"1 of 1 images of the region set do not exist, .*--image-root"):
        regions.first()
    regions = load_region_set(str(folder / "panoptic.json"), image_root=str(coco / "val2017"))
    with pytest.raises(DataError, match=r"the masks of .* cannot be read .*--panoptic-root"):
        regions.first(masks=True)


def test_a_set_without_a_region_that_counts_is_refused(files):
    folder, _ = files
    for key, value in (("iscrowd", 1), ("area", 5)):
        content = copy.deepcopy(CONTENT)
        for segment in content["annotations"][0]["segments_info"]:
            segment[key] = value
        with pytest.raises(DataError, match="has no region that counts"):
            load_region_set(str(write(folder, content)))
