import csv
import json
import math

import pytest

from declip.evaluation.results import write_json, write_results
from declip.evaluation.zero_shot.run import write_table


def strict(path):
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_numbers_that_are_none_are_null_in_json_a_dash_in_the_table_and_empty_in_csv(tmp_path):
    content = {"qk": {"mIoU": 12.5, "classes": [math.nan, math.inf, 3]}}
    table = write_results(tmp_path / "out", ["features", "mIoU", "mACC"], [["qk", 12.5, math.nan]], content)
    assert strict(tmp_path / "out/results.json") == {"qk": {"mIoU": 12.5, "classes": [None, None, 3]}}
    assert [cell.strip() for cell in table.splitlines()[2].split("|")[1:-1]] == ["qk", "12.50", "-"]
    assert (tmp_path / "out/results.md").read_text() == table + "\n"
    with open(tmp_path / "out/results.csv", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["features", "mIoU", "mACC"], ["qk", "12.5", ""]]


def test_a_report_that_fails_leaves_the_old_one(tmp_path):
    write_json(tmp_path / "results.json", {"mIoU": 1.0})
    with pytest.raises(TypeError):
        write_json(tmp_path / "results.json", {"mIoU": object()})
    assert strict(tmp_path / "results.json") == {"mIoU": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_zero_shot_table_has_a_row_per_context_type_and_the_mean_over_datasets(tmp_path):
    write_table(
        {"qk": {"ade": {"mIoU": 12.5}, "voc": {"mIoU": 7.0}}, "q": {"ade": {"mIoU": math.nan}, "voc": {"mIoU": 1.0}}},
        tmp_path,
    )
    lines = (tmp_path / "results.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == ["context", "ade", "voc", "mean"] and len(lines) == 4
    assert cells[2:] == [["qk", "12.50", "7.00", "9.75"], ["q", "-", "1.00", "-"]]
    assert strict(tmp_path / "results.json")["q"]["ade"] == {"mIoU": None}
