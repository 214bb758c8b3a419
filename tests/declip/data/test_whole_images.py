import json

import pytest
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.whole_images import load_captions, load_classes


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_a_folders_captions_stand_beside_its_images(tmp_path, caplog):
    for name in ("a.png", "b.jpg", "deep/c.png"):
        picture(tmp_path / name)
    (tmp_path / "a.txt").write_text("first\n\n second \n")
    (tmp_path / "deep/c.txt").write_text("third", encoding="utf-8")
    found = load_captions(str(tmp_path))
    assert found.captions == (("first", "second"), ("third",))
    assert [image.path for image in found.images] == [str(tmp_path / "a.png"), str(tmp_path / "deep/c.png")]
    assert "1 images of" in caplog.text and "have no caption" in caplog.text
    assert found.first(1).captions == (("first", "second"),) and found.first(0) == found


def test_a_captions_json_is_read_as_coco_has_it(tmp_path):
    content = {
        "images": [{"id": 7, "file_name": "x.jpg"}, {"id": 3, "file_name": "y.jpg"}],
        "annotations": [
            {"image_id": 3, "caption": "two "},
            {"image_id": 7, "caption": "one"},
            {"image_id": 3, "caption": "2"},
        ],
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    found = load_captions(str(tmp_path / "captions.json"), image_root="images")
    assert [image.path for image in found.images] == ["images/x.jpg", "images/y.jpg"]
    assert found.captions == (("one",), ("two", "2"))
    assert load_captions(str(tmp_path / "captions.json")).images[0].path == str(tmp_path / "x.jpg")


def test_scenes_of_the_nano_world_have_a_caption_each(tmp_path):
    found = load_captions("nano_val", dataset_root=tmp_path)
    assert len(found.images) == len(found.captions) == 200 and all(len(each) == 1 for each in found.captions)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("[]", "no COCO captions file"), ('{"images": []}', "no COCO captions file"), ("{", "captions.json")],
)
def test_files_that_hold_no_captions_are_refused(content, sentence, tmp_path):
    (tmp_path / "captions.json").write_text(content)
    with pytest.raises(DataError, match=sentence):
        load_captions(str(tmp_path / "captions.json"))


def test_sources_without_captions_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"no image of .* has a caption: put a \.txt file"):
        load_captions(str(tmp_path))
    with pytest.raises(DataError, match=r"captioned images gone do not exist: give a COCO captions .json, a folder"):
        load_captions("gone")


def test_classes_are_called_as_their_folders_or_as_a_file_says(tmp_path):
    for name in ("traffic_light/1.png", "car/2.png", "car/3.jpg", ".hidden/4.png"):
        picture(tmp_path / name)
    found = load_classes(str(tmp_path))
    assert (found.class_names, found.labels) == (("car", "traffic light"), (0, 0, 1))
    assert found.first(2).labels == (0, 0) and found.first(9) == found
    (tmp_path / "class_names.txt").write_text("automobile\nlights\n")
    assert load_classes(str(tmp_path)).class_names == ("automobile", "lights")
    (tmp_path / "class_names.txt").write_text("automobile\n")
    with pytest.raises(DataError, match="has 1 names for 2 folders"):
        load_classes(str(tmp_path))


def test_a_part_of_the_classes_images_is_spread_over_all_classes(tmp_path):
    for label in range(4):
        for image in range(3):
            picture(tmp_path / f"class {label}/{image}.png")
    assert load_classes(str(tmp_path)).first(4).labels == (0, 1, 2, 3)


def test_imagenets_folders_are_known_and_a_part_of_them_is_not(tmp_path):
    folders = [f"n{index:08d}" for index in range(1000)]
    for folder in folders:
        (tmp_path / folder).mkdir()
    picture(tmp_path / folders[1] / "1.png")
    found = load_classes(str(tmp_path))
    assert found.class_names[1] == "goldfish" and found.labels == (1,)
    (tmp_path / folders[0]).rmdir()
    with pytest.raises(DataError, match=r"the 999 folders of .* are WordNet ids: name them in class_names.txt there"):
        load_classes(str(tmp_path))


def test_folders_without_images_are_refused(tmp_path):
    (tmp_path / "car").mkdir()
    with pytest.raises(DataError, match=r"no image found in .*: it needs a folder of images for each class"):
        load_classes(str(tmp_path))
    with pytest.raises(DataError, match="labelled images gone are no folder"):
        load_classes("gone")
