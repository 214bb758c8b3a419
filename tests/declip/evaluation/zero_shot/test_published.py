import pytest

from declip.evaluation.zero_shot.protocol import DATASETS
from declip.evaluation.zero_shot.published import published_rows
from declip.evaluation.zero_shot.run import write_table


def test_means_over_the_eight_datasets_are_those_published():
    means = {title: mean for title, *_, mean in published_rows(list(DATASETS.values()))}
    assert means["published: CLIP"] == pytest.approx(14.1, abs=0.06)
    assert means["published: MaskCLIP"] == pytest.approx(30.3, abs=0.06)
    assert means["published: SCLIP"] == pytest.approx(38.2, abs=0.06)
    assert means["published: ClearCLIP"] == pytest.approx(38.1, abs=0.06)
    assert means["published: DeCLIP"] is None


def test_a_measured_table_is_followed_by_published_rows_where_there_are_any(tmp_path):
    write_table({"qk": {"ade20k_150_test_sem_seg": {"mIoU": 12.5}, "nano_val": {"mIoU": 7.0}}}, tmp_path)
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["qk", "12.50", "7.00", "9.75"]
    assert [cell.strip() for cell in lines[-1].split("|")[1:-1]] == ["published: DeCLIP", "21.90", "-", "-"]


def test_a_table_of_other_datasets_has_no_published_rows():
    assert published_rows(["nano_val"]) == []
