import json
import sys
from dataclasses import replace

import pytest

from d2host.engine.errors import CheckpointError, ConfigError, DeclipError
from nanoworld.reproduce import SUBJECTS, Row, RowKind, Runs, Subject

TOOL = """import json, pathlib, sys
arguments = sys.argv[1:]
folder = pathlib.Path(arguments[arguments.index("{key}") + 1])
folder.mkdir(parents=True, exist_ok=True)
with open(folder.parent / "calls.txt", "a") as calls:
    calls.write("{name}\\n")
{body}
"""
SEGMENTER = """(folder / "inference").mkdir()
values = {"mIoU": 1.0, "mIoU_seen": 2.0, "mIoU_unseen": 3.0}
(folder / "inference/results.json").write_text(json.dumps({"nano_final": values}))"""
ROW = Row("CAT-Seg", RowKind.SEGMENTER, ("SOLVER.BASE_LR", "0.1"))


def runs(tmp_path, body):
    (tmp_path / "train_net.py").write_text(TOOL.format(key="OUTPUT_DIR", name="train_net", body=body))
    return Runs(tmp_path, tmp_path / "runs")


def test_a_finished_run_is_remembered_and_another_seed_or_option_is_another_run(tmp_path):
    finished = runs(tmp_path, SEGMENTER)
    expected = {"mIoU": 1.0, "mIoU_seen": 2.0, "mIoU_unseen": 3.0}
    assert finished.evaluate(ROW, 0) == finished.evaluate(ROW, 0) == expected
    calls = tmp_path / "runs/calls.txt"
    assert len(calls.read_text().splitlines()) == 1
    finished.evaluate(ROW, 1)
    finished.evaluate(Row("CAT-Seg", RowKind.SEGMENTER), 0)
    assert len(calls.read_text().splitlines()) == 3


def test_a_failed_run_is_named_with_its_log_and_tried_again(tmp_path):
    with pytest.raises(DeclipError, match=r"train_net\.py .* failed, see .*output\.txt: error: no such thing"):
        runs(tmp_path, "sys.exit('error: no such thing')").evaluate(ROW, 0)
    for folder in (tmp_path / "runs").iterdir():
        if (folder / "inference").is_dir():
            (folder / "inference").rmdir()
    assert runs(tmp_path, SEGMENTER).evaluate(ROW, 0)["mIoU"] == 1.0


def test_the_python_of_the_caller_runs_the_tools(tmp_path):
    body = SEGMENTER + "\n(folder.parent / 'python.txt').write_text(sys.executable)"
    runs(tmp_path, body).evaluate(ROW, 0)
    assert (tmp_path / "runs/python.txt").read_text() == sys.executable


def test_runs_get_the_threads_that_are_meant_for_them(tmp_path):
    body = SEGMENTER + "\nimport os\n(folder.parent / 'threads.txt').write_text(os.environ['OMP_NUM_THREADS'])"
    replace(runs(tmp_path, body), threads=3).evaluate(ROW, 0)
    assert (tmp_path / "runs/threads.txt").read_text() == "3"


def test_rows_that_tables_share_run_once_also_side_by_side(tmp_path):
    finished = runs(tmp_path, SEGMENTER)
    same = Row("the same under another name", ROW.kind, ROW.options)
    finished.evaluate_all([ROW, same, Row("other", RowKind.SEGMENTER)], seeds=range(2), jobs=2)
    assert len((tmp_path / "runs/calls.txt").read_text().splitlines()) == 4
    with pytest.raises(DeclipError, match="no such thing"):
        runs(tmp_path, "sys.exit('no such thing')").evaluate_all([ROW], seeds=[7, 8])


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"nano_final": {}}', '{"nano_final": {"mIoU": "high"}}'])
def test_damaged_results_are_named(content, tmp_path):
    finished = runs(tmp_path, SEGMENTER)
    finished.evaluate(ROW, 0)
    (results,) = tmp_path.rglob("results.json")
    results.write_text(content)
    with pytest.raises(DeclipError, match=r"results\.json is damaged .*: remove .* to evaluate again"):
        finished.evaluate(ROW, 0)


def test_a_damaged_note_that_a_run_is_done_lets_it_run_again(tmp_path):
    finished = runs(tmp_path, SEGMENTER.replace("mkdir()", "mkdir(exist_ok=True)"))
    finished.evaluate(ROW, 0)
    (done,) = tmp_path.rglob("done.json")
    done.write_bytes(b"\xff{")
    assert finished.evaluate(ROW, 0)["mIoU"] == 1.0
    assert len((tmp_path / "runs/calls.txt").read_text().splitlines()) == 2


DETECTED = """(folder / "inference").mkdir()
metrics = {"AP50_novel": 1.0, "AP50_base": 2.0, "AP50": 3.0}
(folder / "inference/results.json").write_text(json.dumps({"nano_det_final": {"bbox": metrics}}))
(folder / "arguments.json").write_text(json.dumps(arguments))"""


def test_detectors_share_the_encoder_that_is_distilled_for_them(tmp_path):
    (tmp_path / "train_declip.py").write_text(TOOL.format(key="OUTPUT_DIR", name="train_declip", body=""))
    encoder = Row("self-distilled", RowKind.DISTILLED, ("MODEL.ENCODER.CONTEXT", "maskclip"))
    rows = [Row("on it", RowKind.DETECTOR, encoder=encoder), Row("on the shipped one", RowKind.DETECTOR)]
    finished = runs(tmp_path, DETECTED)
    finished.evaluate_all(rows, seeds=range(2))
    assert finished.evaluate(rows[0], 1) == {"AP50_novel": 1.0, "AP50_base": 2.0, "AP50": 3.0}
    calls = (tmp_path / "runs/calls.txt").read_text().split()
    assert sorted(calls) == ["train_declip", *["train_net"] * 4]
    given = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("detector-*/arguments.json")]
    weights = [each[each.index("MODEL.ENCODER.WEIGHTS") + 1] for each in given if "MODEL.ENCODER.WEIGHTS" in each]
    assert len(set(weights)) == 1 and len(weights) == 2 and "distilled-" in weights[0]


def test_results_of_other_weights_are_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Subject("own", "own.safetensors", {})
    with pytest.raises(CheckpointError, match=r"own\.safetensors of encoder 'own' is missing: train it"):
        own.version()
    versions = [SUBJECTS["nano"].version()]
    for content in (b"1", b"2"):
        (tmp_path / "own.safetensors").write_bytes(content)
        versions.append(own.version())
    assert len(set(versions)) == 3


def test_an_encoder_without_a_segmenter_has_no_table_of_segmenters():
    with pytest.raises(ConfigError, match="encoder 'nano-clip-12' has no config for a segmenter"):
        SUBJECTS["nano-clip-12"].config(RowKind.SEGMENTER)


def test_an_encoder_that_rows_share_is_distilled_once_before_any_of_them(tmp_path):
    body = """(folder / "inference").mkdir()
values = {"AP50_novel": 1.0, "AP50_base": 2.0, "AP50": 3.0}
(folder / "inference/results.json").write_text(json.dumps({"nano_det_final": {"bbox": values}}))"""
    (tmp_path / "train_declip.py").write_text(TOOL.format(key="OUTPUT_DIR", name="train_declip", body=""))
    row = Row("F-ViT", RowKind.DETECTOR, encoder=Row("distilled", RowKind.DISTILLED))
    runs(tmp_path, body).evaluate_all([row], seeds=range(3), jobs=3)
    calls = (tmp_path / "runs/calls.txt").read_text().splitlines()
    assert calls == ["train_declip", *["train_net"] * 3]
