import os

import pytest

from d2host.engine.errors import DataError
from declip.data.listing import find_files


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def listed(folder, **options):
    return [str(file.relative_to(folder)) for file in find_files(folder, **options)]


def test_files_count_by_their_endings_in_any_case_in_all_sub_folders(tmp_path):
    make(tmp_path, "b.JPG", "a.jpeg", "x/a.jpeg", "x/y/c.Png", "x.jpg/inside.png", "notes.txt", "d.tif", "none")
    assert listed(tmp_path) == ["a.jpeg", "b.JPG", "x/a.jpeg", "x/y/c.Png", "x.jpg/inside.png"]
    assert listed(tmp_path, suffixes=[".tif"]) == ["d.tif"]


def test_linked_folders_are_followed_once_and_circles_end(tmp_path):
    make(tmp_path, "photos/real/1.png", "elsewhere/2.png")
    (tmp_path / "photos/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/a_link_to_real").symlink_to("real")
    (tmp_path / "photos/real/up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/3.png").symlink_to(tmp_path / "elsewhere/2.png")
    assert listed(tmp_path / "photos") == ["3.png", "linked/2.png", "real/1.png"]


def test_what_is_left_out_is_counted_in_the_log(tmp_path, caplog):
    make(tmp_path, "a.png", "._a.png", ".DS_Store", ".hidden/b.png", "notes.txt", "more.txt", "scan.tif", "none")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to("gone")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert listed(tmp_path) == ["a.png"]
    assert len(caplog.records) == 1
    for count in ("3 hidden", "3 pipes, devices and links to nothing", "2 .txt files", "1 .tif", "1 files without"):
        assert count in caplog.text, count


def test_a_listing_that_leaves_nothing_out_says_nothing(tmp_path, caplog):
    make(tmp_path, "a.png", "x/b.jpg")
    assert len(listed(tmp_path)) == 2 and not caplog.records


def test_a_folder_below_can_be_left_out(tmp_path):
    make(tmp_path, "a.png", "out/a.png", "other/a.png")
    assert listed(tmp_path, without=[tmp_path / "out", tmp_path / "gone"]) == ["a.png", "other/a.png"]


def test_a_folder_that_cannot_be_searched_is_named(tmp_path):
    with pytest.raises(DataError, match=r"folder .*gone cannot be searched"):
        find_files(tmp_path / "gone")
