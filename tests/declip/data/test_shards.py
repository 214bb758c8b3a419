import io
import os
import tarfile

import pytest
from PIL import Image

from d2host.engine.errors import DataError
from declip.data import opening
from declip.data.reading import read_image
from declip.data.shards import are_shards, expand_braces, find_shards, read_shard


def jpeg(shade=0):
    content = io.BytesIO()
    Image.new("L", (8, 8), shade).save(content, "JPEG")
    return content.getvalue()


def write(path, names, **options):
    with tarfile.open(path, "w", **options) as shard:
        for number, name in enumerate(names):
            content = jpeg(number)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_images_come_as_they_are_stored_whatever_the_format(kind, tmp_path):
    names = ["0.jpg", "d" * 99 + "/1.jpg", "x.txt", "deep/2.JPG", "._0.jpg", "\N{LATIN SMALL LETTER E WITH ACUTE}.jpg"]
    shard = str(write(tmp_path / "s.tar", names, format=kind))
    images = list(read_shard(shard))
    assert [(number, name) for number, name, _ in images] == [
        (number, f"{shard}:{names[place]}") for number, place in enumerate((0, 1, 3, 5))
    ]
    assert [round(read_image(io.BytesIO(content)).mean()) for *_, content in images] == [0, 1, 3, 5]
    assert [number for number, *_ in read_shard(shard, 1, 2)] == [1, 3] and not list(read_shard(shard, 4))


def test_shards_of_the_library_are_read_and_those_elsewhere_fetched_by_it(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "000.tar")) as writer:
        for number in range(3):
            writer.write({"__key__": f"{number:03d}", "jpg": jpeg(number), "txt": "a caption", "json": {"width": 8}})
    (shard,), (address,) = (
        find_shards(str(tmp_path / "{000..000}.tar")),
        find_shards(f"pipe:cat {tmp_path}/{{000..000}}.tar"),
    )
    assert are_shards(shard) and are_shards(address)
    assert [content for *_, content in read_shard(address)] == [content for *_, content in read_shard(shard)]
    assert [content for *_, content in read_shard(shard)] == [jpeg(number) for number in range(3)]
    for gone in (f"pipe:cat {tmp_path}/gone.tar 2> /dev/null", f"pipe:head -c 900 {shard}"):
        with pytest.raises(DataError, match=r"cannot be fetched|is no uncompressed tar file|damaged or cut off"):
            list(read_shard(gone))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{000..003}.tar", ["000.tar", "001.tar", "002.tar", "003.tar"]),
        ("{8..10}.tar", ["8.tar", "9.tar", "10.tar"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{0..6..3}", ["0", "3", "6"]),
        ("{a,b}-{1..2}", ["a-1", "a-2", "b-1", "b-2"]),
        ("{a,}x", ["ax", "x"]),
        ("plain", ["plain"]),
    ],
)
def test_braces_spell_names_out_as_a_shell_does(pattern, names):
    assert list(expand_braces(pattern)) == names


@pytest.mark.parametrize(
    "pattern",
    ["{0..9999999}", "{0..9999}{0..9999}", "{0..99999999999999999999}", "{{0..1}}", "{0..1", "0}", "{}", "{x}"],
)
def test_braces_that_spell_out_too_much_or_nothing_are_refused(pattern):
    with pytest.raises(DataError, match=r"spells out more than|do not pair up|is neither a range"):
        list(expand_braces(f"{pattern}.tar"))


def test_patterns_find_the_shards_there_are_and_miss_none_they_name(tmp_path):
    for name in ("a/0.tar", "a/1.tar", "b/0.tar", "odd{1}.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, ["x.jpg"])
    found = {
        pattern: [os.path.relpath(path, tmp_path) for path in find_shards(f"{tmp_path}/{pattern}")]
        for pattern in ("*/*.tar", "a/{0..1}.tar", "{a,b}/*.tar", "odd{1}.tar", "{a,a}/0.tar")
    }
    assert found == {
        "*/*.tar": ["a/0.tar", "a/1.tar", "b/0.tar"],
        "a/{0..1}.tar": ["a/0.tar", "a/1.tar"],
        "{a,b}/*.tar": ["a/0.tar", "a/1.tar", "b/0.tar"],
        "odd{1}.tar": ["odd{1}.tar"],
        "{a,a}/0.tar": ["a/0.tar"],
    }
    for pattern in ("a/{0..2}.tar", "c/*.tar", "gone.tar"):
        with pytest.raises(DataError, match="there is no shard"):
            find_shards(f"{tmp_path}/{pattern}")


def test_a_shard_cut_anywhere_before_its_end_mark_is_refused(tmp_path):
    content = write(tmp_path / "s.tar", [f"{number}.jpg" for number in range(4)]).read_bytes()
    end = max(place for place in range(0, len(content), 512) if content[place : place + 512].strip(b"\0")) + 512
    cut = tmp_path / "cut.tar"
    for length in [*range(0, end, 131), *range(0, end + 1, 512)]:
        cut.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"cut\.tar is (no uncompressed tar file|damaged or cut off)"):
            list(read_shard(str(cut)))
    cut.write_bytes(content[: end + 512])
    assert len(list(read_shard(str(cut)))) == 4


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path, whole: path.write_bytes(whole * 2), "goes on behind its end"),
        (lambda path, whole: path.write_bytes(whole[:512] + b"\1" * 512 + whole[1024:]), None),
        (lambda path, whole: path.write_bytes(b"\1" * 2048), "is no uncompressed tar file"),
        (lambda path, whole: path.write_bytes(b""), "is no uncompressed tar file"),
        (lambda path, whole: os.mkfifo(path), "or is no file"),
        (lambda path, whole: path.mkdir(), "or is no file"),
        (lambda path, whole: tarfile.open(path, "w:gz").close(), "is no uncompressed tar file"),
    ],
)
def test_odd_shards_get_one_sentence(make, sentence, tmp_path):
    whole = write(tmp_path / "whole.tar", ["0.jpg"]).read_bytes()
    make(tmp_path / "odd.tar", whole)
    with pytest.raises(DataError, match=sentence):
        for *_, content in read_shard(str(tmp_path / "odd.tar")):
            read_image(io.BytesIO(content))


def test_links_are_left_out_and_counted(tmp_path, caplog):
    with tarfile.open(write(tmp_path / "s.tar", ["0.jpg"]), "a") as shard:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("link.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            shard.addfile(info)
    assert len(list(read_shard(str(tmp_path / "s.tar")))) == 1
    assert "4 links and devices" in caplog.text


def test_a_member_is_refused_by_its_size_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("declip.data.shards.MOST_BYTES", 100)
    write(tmp_path / "s.tar", ["0.jpg"])
    with pytest.raises(DataError, match=r"s\.tar:0\.jpg has \d+ bytes, at most 100 are read"):
        list(read_shard(str(tmp_path / "s.tar")))
    assert opening.MOST_BYTES == 2**31
