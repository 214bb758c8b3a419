#!/usr/bin/env python3
"""Kill trainings at random moments, let them go on until they are done, and compare what they leave.

tests/tools/kills.py --kills 50
tests/tools/kills.py --kills 5 --seed 1 --trainers train_net.py

Weights, exported weights, results and metrics but for times must equal those of an undisturbed run. Trainings run in
processes forked from one that has everything imported, so that it is trainings that are killed and not imports.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import runpy
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

TOOLS = Path(__file__).resolve().parents[2] / "tools"
PRELOADED = [
    "torch.utils.tensorboard",
    "catseg.trainer",
    "declip.distill",
    "nanoworld.pretraining",
    "d2host.engine.run",
]
OVERRIDES = {
    "train_net.py": """
        --config-file declip_catseg_nano.yaml MODEL.ENCODER.GRID 4 MODEL.SEM_SEG_HEAD.WINDOW_SIZE 2 DATASETS.TRAIN
        ('nano_val',) DATASETS.TEST ('nano_val',) SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 24 SOLVER.WARMUP_ITERS 2
        SOLVER.CHECKPOINT_PERIOD 4 INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 32 INPUT.CROP.SIZE (32,32)
        TEST.EVAL_PERIOD 12 TEST.VISUALIZE 1""",
    "train_declip.py": """
        --config-file distill_nano.yaml DATASETS.IMAGES nano_val INPUT.STUDENT_SIZE 64 INPUT.MAX_SPLIT 2
        SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 24 SOLVER.WARMUP_ITERS 2 SOLVER.CHECKPOINT_PERIOD 4 TEST.EVAL_PERIOD 6
        TEST.MAX_IMAGES 4""",
    "nano/pretrain.py": """
        --config-file nano_clip.yaml MODEL.PRETRAINING.PHOTO_SIZE 32 SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 24
        SOLVER.WARMUP_ITERS 2 SOLVER.CHECKPOINT_PERIOD 4 TEST.EVAL_PERIOD 6 TEST.MAX_IMAGES 4""",
}


def run(trainer: str, folder: Path, datasets: Path) -> None:
    """Begin or go on with a training, in this process; the processes it starts are forked as they would be."""
    multiprocessing.set_start_method("fork", force=True)
    os.environ["DETECTRON2_DATASETS"] = str(datasets)
    sys.argv = [trainer, "--resume", *OVERRIDES[trainer].split(), "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(folder)]
    folder.mkdir(exist_ok=True)
    with (
        open(folder / "output.txt", "a") as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        runpy.run_path(str(TOOLS / trainer), run_name="__main__")


def left(folder: Path) -> dict:
    """What a training leaves, by name: tensors as bytes, metrics without times."""
    import torch
    from safetensors.torch import load_file

    from d2host.engine.state import TIMES

    content = torch.load(folder / "model_final.pth", weights_only=True)
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    facts = {"metrics": [{key: value for key, value in line.items() if key not in TIMES} for line in lines]}
    for path in folder.glob("*.safetensors"):
        facts[path.name] = {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}
    for path in folder.rglob("*.json"):
        if path.name != "metrics.json":
            facts[str(path.relative_to(folder))] = path.read_text()
    facts["weights"] = {name: tensor.numpy().tobytes() for name, tensor in content["model"].items()}
    facts["files"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "events." not in path.name)
    return facts


def kill_and_go_on(trainer: str, kills: int, seed: int, root: Path) -> str:
    """Kill as often as asked for, in as many runs as that takes; one line about it.

    Raises:
        AssertionError: a run fails or leaves something else than the undisturbed one.
    """
    context, chance = multiprocessing.get_context("forkserver"), random.Random(seed)
    context.set_forkserver_preload(PRELOADED)

    def attempt(folder: Path, patience: float | None = None) -> int:
        process = context.Process(target=run, args=(trainer, folder, root / "datasets"))
        process.start()
        process.join(patience)
        if process.exitcode is None:
            process.kill()
            process.join()
        return process.exitcode

    for warmth in range(2):  # the first one draws the datasets, too
        started = time.monotonic()
        assert attempt(root / f"undisturbed{warmth}") == 0, (root / f"undisturbed{warmth}" / "output.txt").read_text()
    undisturbed, length = left(root / "undisturbed1"), time.monotonic() - started
    done = runs = 0
    while done < kills or not (root / f"run{runs - 1}").is_dir():
        folder = root / f"run{runs}"
        while done < kills:
            code = attempt(folder, chance.uniform(0, length))
            if code == 0:
                break
            assert code == -9, (folder / "output.txt").read_text()[-3000:]
            done += 1
        assert attempt(folder) == 0, (folder / "output.txt").read_text()[-3000:]
        for name, found in left(folder).items():
            detail = "" if isinstance(found, dict) else f"\n{found}\n{undisturbed[name]}"
            assert found == undisturbed[name], f"{trainer}: {name} of {folder} differs after {done} kills{detail}"
        runs += 1
    return f"{trainer}: {done} kills, {runs} runs, all alike; an undisturbed run takes {length:.1f} s"


def main() -> None:
    """Kill each trainer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", choices=[*OVERRIDES], default=[*OVERRIDES])
    parser.add_argument("--kills", type=int, default=50, help="of each trainer")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    for trainer in args.trainers:
        with TemporaryDirectory() as root:
            print(kill_and_go_on(trainer, args.kills, args.seed, Path(root)), flush=True)


if __name__ == "__main__":
    main()
