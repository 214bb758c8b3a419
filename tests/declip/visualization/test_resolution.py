import json
import math

import pytest
import torch

from d2host.engine.errors import DataError
from declip.evaluation.regions.accuracy import RegionAccuracy
from declip.evaluation.regions.report import write_report
from declip.evaluation.zero_shot.run import write_table
from declip.visualization import read_results, resolution


def accuracy(*top1):
    return RegionAccuracy(torch.tensor(top1), torch.tensor(top1), torch.ones(2), torch.tensor([True, False]))


@pytest.fixture
def regions(tmp_path):
    results = {("qk, boxes", 64): accuracy(10.0, 30.0), ("qk, boxes", 128): accuracy(20.0, math.nan)}
    write_report(results, ["a", "b"], tmp_path / "regions")
    return tmp_path / "regions"


@pytest.fixture
def dense(tmp_path):
    for side in (64, 128):
        write_table({"qk": {"nano_val": {"mIoU": side / 4, "pACC": 50.0}}}, tmp_path / str(side))
    return {side: tmp_path / str(side) for side in (64, 128)}


def test_results_of_regions_say_their_size(regions):
    found = read_results("DeCLIP", regions)
    assert found.keys() == {("DeCLIP: qk, boxes", 64), ("DeCLIP: qk, boxes", 128)}
    assert found["DeCLIP: qk, boxes", 64]["things_mAcc"] == 10 and found["DeCLIP: qk, boxes", 64]["stuff_mAcc"] == 30
    assert "stuff_mAcc" not in found["DeCLIP: qk, boxes", 128]  # no stuff occurred


def test_results_of_regions_are_not_told_another_size(regions):
    assert read_results("DeCLIP", regions, 64) == read_results("DeCLIP", regions)
    with pytest.raises(DataError, match="says itself of which sizes it is, none is 96: leave 96= out"):
        read_results("DeCLIP", regions, 96)


def test_results_of_segmentation_are_told_their_size(dense, tmp_path):
    assert read_results("a", dense[64], 64) == {("a: qk", 64): {"nano_val mIoU": 16.0, "nano_val pACC": 50.0}}
    (tmp_path / "catseg.json").write_text(json.dumps({"voc": {"mIoU": 30.0, "IoU-cat": None, "IoU-dog": 1.0}}))
    assert read_results("b", tmp_path / "catseg.json", 96) == {("b", 96): {"voc mIoU": 30.0}}


def test_a_panel_per_metric_has_a_line_per_curve(regions, dense, tmp_path):
    figure = resolution({"DeCLIP": regions, "$CLIP$": regions})
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ["things_mAcc", "stuff_mAcc"]
    line = panels["things_mAcc"].lines[0]
    assert line.get_xdata().tolist() == [64, 128] and line.get_ydata().tolist() == [10, 20]
    assert panels["stuff_mAcc"].lines[0].get_xdata().tolist() == [64]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["DeCLIP: qk, boxes", "$CLIP$: qk, boxes"]
    figure.savefig(tmp_path / "x.svg")
    (axes,) = resolution({"DeCLIP": dense}).axes
    assert axes.get_title() == "nano_val mIoU" and axes.lines[0].get_ydata().tolist() == [16, 32]


def test_what_is_no_result_is_refused(dense, tmp_path):
    with pytest.raises(DataError, match=r"does not say the size of the images: give it, as 448="):
        resolution({"a": dense[64]})
    with pytest.raises(DataError, match="no results have a metric 'mAP': choose among nano_val mIoU, nano_val pACC"):
        resolution({"a": dense}, ["mAP"])
    for content in ([], {}, 3, [{"side": 3}], {"a": "b"}, {"a": 1.0}, [{"features": "a", "side": 3}]):
        (tmp_path / "results.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"results file .*results\.json"):
            resolution({"a": {64: tmp_path}})
