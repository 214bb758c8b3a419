"""Training a detector by the command line, in this process; a slow test overfits."""

import json

import pytest

from d2host import DatasetCatalog, MetadataCatalog
from d2host.engine.checkpoint_file import read_run
from nanoworld.datasets import NanoSplit
from nanoworld.detection import SCENES, TRAINING, facts, load_objects
from nanoworld.vocabulary import CLASSES


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A dozen nano scenes to train and to evaluate on."""
    root, names = tmp_path_factory.mktemp("scenes"), {"scenes_train": TRAINING, "scenes_val": "nano_det_val"}
    with pytest.MonkeyPatch.context() as patch:
        for name, like in names.items():
            patch.setitem(SCENES, like, NanoSplit(name, seed=70, size=12, classes=CLASSES))
            records = load_objects(like, root)
            DatasetCatalog.register(name, lambda records=records: records)
            MetadataCatalog.get(name).set(**facts())
    return names


@pytest.fixture
def train(repository, run_here, scenes):
    def run(folder, *arguments, status=0):
        values = {
            "MODEL.DEVICE": "cpu",
            "MODEL.TEXT.CACHE": "",
            "MODEL.FPN.OUT_CHANNELS": 8,
            "MODEL.RPN.POST_NMS_TOPK": 30,
            "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
            "DATASETS.TRAIN": "('scenes_train',)",
            "DATASETS.TEST": "('scenes_val',)",
            "SOLVER.IMS_PER_BATCH": 2,
            "SOLVER.MAX_ITER": 4,
            "SOLVER.WARMUP_ITERS": 1,
            "SOLVER.STEPS": "(3,)",
            "SOLVER.CHECKPOINT_PERIOD": 2,
            "DATALOADER.NUM_WORKERS": 0,
            "TEST.VISUALIZE": 1,
            "OUTPUT_DIR": folder,
        }
        options = [text for key, value in values.items() for text in (key, value)]
        flags = [argument for argument in arguments if str(argument).startswith("--")]
        rest = [argument for argument in arguments if argument not in flags]
        program = repository / "tools/train_net.py"
        result = run_here(program, "--config-file", "fvit_nano.yaml", *flags, *options, *rest, cwd=folder.parent)
        assert result.returncode == status, result.stderr
        return result

    return run


def results(folder):
    return json.loads((folder / "inference/results.json").read_text())


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return {line["iteration"]: (line["total_loss"], line["lr"]) for line in lines if "total_loss" in line}


def test_a_run_is_resumed_exactly_and_evaluated_from_its_checkpoint(train, tmp_path):
    whole, parted, again = (tmp_path / name for name in ("whole", "parted", "again"))
    train(whole)
    assert {"AP", "AP50", "AP50_novel", "AP50_base"} <= set(results(whole)["scenes_val"]["bbox"])
    assert list((whole / "inference/scenes_val/visualizations").glob("*.png"))
    train(parted)
    for name in ("model_final.pth", "model_0000003.pth", "last_checkpoint"):
        (parted / name).unlink(missing_ok=True)
    train(parted, "--resume")
    assert metrics(parted) == metrics(whole)
    states = [read_run(folder / "model_final.pth")["model"] for folder in (whole, parted)]
    assert all((states[0][name] == tensor).all() for name, tensor in states[1].items())
    train(again, "--eval-only", "MODEL.WEIGHTS", whole / "model_final.pth")
    assert results(again) == results(whole)
    other = ("DATASETS.TRAIN", "('coco_80_val',)")
    for weights, folder in ((("MODEL.WEIGHTS", whole / "model_final.pth"), again), ((), whole)):
        result = train(folder, "--eval-only", *weights, *other, status=2)
        assert "was trained on scenes_train, of other classes than coco_80_val of DATASETS.TRAIN" in result.stderr


def test_a_run_is_evaluated_by_the_context_it_was_trained_with(train, tmp_path):
    own = ("MODEL.ENCODER.WEIGHTS", "nano-clip", "MODEL.ENCODER.CONTEXT", "maskclip")
    train(tmp_path / "run", *own)
    trained = results(tmp_path / "run")
    changed = ("MODEL.ROI_HEADS.FINEST_SIZE", 99.0)
    result = train(tmp_path / "run", "--eval-only")
    assert results(tmp_path / "run") == trained and "was trained with" not in result.stderr + result.stdout
    result = train(tmp_path / "run", "--eval-only", *changed)
    assert "was trained with MODEL.ROI_HEADS.FINEST_SIZE 28.0, and is evaluated with 99.0" in result.stdout


def test_the_rate_falls_at_the_steps(train, tmp_path):
    train(tmp_path / "run")
    assert metrics(tmp_path / "run")[3][1] == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("DATASETS.TRAIN", "()"), "DATASETS.TRAIN names no dataset"),
        (("DATASETS.TRAIN", "('scenes_val',)"), "of the novel class"),
        (("MODEL.META_ARCHITECTURE", "Other"), "MODEL.META_ARCHITECTURE is 'Other', which no package trains: choose"),
        (("MODEL.WEIGHTS", "missing.pth"), "checkpoint missing.pth does not exist"),
        (("DATASETS.TEST", "()", "TEST.EVAL_PERIOD", 2), "DATASETS.TEST names no dataset"),
    ],
)
def test_what_cannot_be_trained_ends_in_a_sentence(train, arguments, sentence, tmp_path):
    result = train(tmp_path / "run", *arguments, status=2)
    assert sentence in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_detector_learns_scenes_by_heart(train, tmp_path):
    unchanged = ("INPUT.MIN_SCALE", 1.0, "INPUT.MAX_SCALE", 1.0, "INPUT.RANDOM_FLIP", "none")
    wider = ("MODEL.FPN.OUT_CHANNELS", 32, "MODEL.RPN.POST_NMS_TOPK", 100, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 48)
    longer = ("SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 200, "SOLVER.STEPS", "(160,)", "SOLVER.WARMUP_ITERS", 10)
    train(tmp_path / "run", *unchanged, *wider, *longer, "SOLVER.BASE_LR", 0.002, "SOLVER.CHECKPOINT_PERIOD", 0)
    assert results(tmp_path / "run")["scenes_val"]["bbox"]["AP50_base"] > 80
