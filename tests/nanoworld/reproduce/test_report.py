import pytest

from nanoworld.reproduce import Claim, Report, Row, RowKind, Table
from nanoworld.reproduce.report import CLEAR, NONE, WEAK

TABLE = Table(
    1,
    "Forms",
    ("mIoU", "mAcc"),
    (Row("0.25", RowKind.DISTILLED, published=(75.0,)), Row("theirs", RowKind.ORIGINAL, ("qk",))),
    (Claim("0.25", "theirs", ("mIoU",)),),
    ("COCO mAcc",),
)


def report(ours, theirs):
    values = {"0.25": [{"mIoU": x, "mAcc": 50.0} for x in ours], "theirs": [{"mIoU": x, "mAcc": 40.0} for x in theirs]}
    return Report(TABLE, values, "tools/reproduce.py --table 1")


def test_means_and_sample_deviations_over_seeds():
    found = report([10.0, 12.0, 14.0], [1.0])
    assert found.mean("0.25", "mIoU") == pytest.approx(12)
    assert found.deviation("0.25", "mIoU") == pytest.approx(2)
    assert found.deviation("theirs", "mIoU") == 0


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [([10, 12, 14], [5.0], CLEAR), ([10, 12, 14], [11.0], WEAK), ([10, 12, 14], [13.0], NONE), ([5.0], [5.0], NONE)],
)
def test_a_claim_holds_clearly_only_where_intervals_are_apart(ours, theirs, verdict):
    assert report(ours, theirs).verdict(TABLE.claims[0], "mIoU") == verdict


def test_the_report_has_the_command_the_numbers_and_the_findings(tmp_path):
    path = report([10.0, 12.0, 14.0], [13.0]).write(tmp_path / "new")
    text = path.read_text()
    assert "`tools/reproduce.py --table 1`" in text
    assert "12.0 ± 2.0" in text and "13.0" in text
    assert "published: COCO mAcc" in text and "75.0" in text
    assert "| 0.25 " in text
    assert "no (-1.0)" in text
    assert path.with_suffix(".png").stat().st_size > 1000
