import json

import numpy as np
import pytest

from d2host.engine.errors import DataError
from declip.visualization import read_curves, training
from declip.visualization.training import Curve


@pytest.fixture
def run(tmp_path):
    """Writes the metrics of a run, returns its folder."""

    def write(name, *lines):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    return write


def test_curves_are_the_numbers_of_the_file(run):
    folder = run(
        *("a", {"iteration": 9, "total_loss": 2.0, "lr": 1}, {"iteration": 19, "total_loss": None, "lr": 0.5}),
        *({"iteration": 29, "total_loss": 1.0}, {"iteration": 29, "nano_val/mIoU": 40.0, "note": "x"}),
    )
    curves = read_curves(folder)
    assert curves.keys() == {"total_loss", "lr", "nano_val/mIoU"}
    assert curves["total_loss"].iterations.tolist() == [9, 29] and curves["total_loss"].values.tolist() == [2, 1]
    assert curves["lr"].values.tolist() == [1, 0.5]
    assert read_curves(folder / "metrics.json")["nano_val/mIoU"].values.tolist() == [40]


def test_of_an_iteration_that_ran_twice_the_later_counts(run):
    lines = [{"iteration": iteration, "total_loss": loss} for iteration, loss in ((0, 3), (10, 2), (20, 9), (10, 1))]
    curve = read_curves(run("a", *lines))["total_loss"]
    assert curve.iterations.tolist() == [0, 10, 20] and curve.values.tolist() == [3, 1, 9]


def test_smoothing_is_the_mean_of_the_last_values():
    values = np.random.default_rng(0).random(50)
    smoothed = Curve(np.arange(50), values).smoothed(7).values
    expected = [values[max(index - 6, 0) : index + 1].mean() for index in range(50)]
    np.testing.assert_allclose(smoothed, expected)
    np.testing.assert_allclose(Curve(np.arange(50), values).smoothed(1).values, values)


def test_runs_are_laid_over_each_other(run, tmp_path):
    first = run("a", *({"iteration": i, "total_loss": 9 - i, "loss_content": i} for i in range(5)))
    second = run("b", *({"iteration": i, "total_loss": 1} for i in range(3)))
    figure = training({"$a$": first, "b": second})
    panels = {axes.get_title(): axes.lines for axes in figure.axes if axes.get_title()}
    assert {name: len(lines) for name, lines in panels.items()} == {"loss_content": 1, "total_loss": 2}
    assert panels["total_loss"][0].get_ydata().tolist() == [9, 8, 7, 6, 5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$a$", "b"]
    figure.savefig(tmp_path / "x.svg")
    one = training({"a": first}, curves=["total_loss"], smooth=2, log_scale=True)
    assert one.axes[0].lines[1].get_ydata().tolist() == [9, 8.5, 7.5, 6.5, 5.5] and one.axes[0].get_yscale() == "log"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no numbers"),
        ('{"iteration": 1}', "holds no numbers"),
        ('{"iteration": 1, "a": 2}\n{"a": 2}', "line 2 has no numbers of an iteration"),
        ("[]", "line 1 has no numbers"),
        ('{"iteration": "x"}', "line 1 has no numbers"),
        ('{"iteration": 1, "a"', "line 1 has no numbers"),
    ],
)
def test_a_file_that_is_no_metrics_is_refused(text, message, tmp_path):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_curves(tmp_path)


def test_a_curve_that_no_run_has_is_named_with_those_there_are(run):
    folder = run("a", {"iteration": 1, "lr": 2, "time": 3})
    with pytest.raises(DataError, match="no metrics file has a curve 'mIoU': choose among lr, time"):
        training({"a": folder}, curves=["lr", "mIoU"])
    with pytest.raises(DataError, match="no metrics file has a curve 'total_loss'"):
        training({"a": folder})
