import pickle
import random

import pytest

from d2host.engine.errors import DataError
from declip.data.detection.record_file import RecordFile, write_records

CLASSES = ["cat", "dog"]


def record(number):
    annotations = [{"bbox": [1, 2, 3, 4], "bbox_mode": 1, "category_id": k % 2, "iscrowd": 0} for k in range(number)]
    return {"image_id": number, "file_name": f"a/{number}.jpg", "height": 9, "width": 9, "annotations": annotations}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "my.records"
    assert write_records(path, CLASSES, map(record, range(7))) == 7
    return path


def test_what_is_written_is_read(path):
    records = RecordFile(path, "/data")
    assert list(records) == [{**record(number), "file_name": f"/data/a/{number}.jpg"} for number in range(7)]
    assert len(records) == 7 and records[-1]["image_id"] == 6
    assert records.image_ids == list(range(7)) and records.num_objects.tolist() == list(range(7))
    assert records.objects_per_class == [12, 9]


def test_crowds_are_no_objects_to_count(tmp_path):
    crowd = record(3)
    crowd["annotations"][1]["iscrowd"] = 1
    write_records(tmp_path / "my.records", CLASSES, [crowd])
    assert RecordFile(tmp_path / "my.records").num_objects.tolist() == [2]


def test_parts_are_parts_and_go_to_other_processes(path):
    records = RecordFile(path)
    part = pickle.loads(pickle.dumps(records[2:6].subset([3, 0])))
    assert [each["image_id"] for each in part] == [5, 2] and part.file_names == ["a/5.jpg", "a/2.jpg"]
    assert len(pickle.dumps(records)) < 2000  # its index, no annotation


def test_only_the_record_that_is_asked_for_is_read(path):
    records = RecordFile(path)
    content = path.read_bytes()
    lines = content.split(b"\n")
    path.write_bytes(b"\n".join([b"x" * len(line) if line != lines[4] else line for line in lines]))
    assert records[4]["image_id"] == 4
    with pytest.raises(DataError, match="cannot be read any more"):
        records[3]


def test_a_file_that_is_cut_off_or_spoilt_is_refused_or_read_as_it_was(path, tmp_path):
    content, whole, generator = path.read_bytes(), list(RecordFile(path)), random.Random(0)
    refused = 0
    for _ in range(200):
        spoilt = bytearray(content)
        if generator.random() < 0.5:
            spoilt = spoilt[: generator.randrange(len(spoilt))]
        else:
            spoilt[generator.randrange(len(spoilt) - 21, len(spoilt))] = generator.randrange(256)
        (tmp_path / "spoilt.records").write_bytes(spoilt)
        try:
            assert list(RecordFile(tmp_path / "spoilt.records")) == whole
        except DataError as error:
            assert "prepare it again" in str(error)
            refused += 1
    assert refused > 150


def test_a_file_that_is_missing_or_something_else_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"gone\.records does not exist: run the script"):
        RecordFile(tmp_path / "gone.records", remedy="run the script")
    (tmp_path / "empty.records").touch()
    with pytest.raises(DataError, match="is no whole file of detection records"):
        RecordFile(tmp_path / "empty.records")
    (tmp_path / "other.records").write_bytes(b"{}\n" + b"%020d\n" % 0)
    with pytest.raises(DataError, match="'classes' is missing"):
        RecordFile(tmp_path / "other.records")
