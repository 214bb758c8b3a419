"""What the project expects of its host, as a program: run with D2HOST set, prints the host's name when all holds.

Run by test_contract.py in a process per host, so that both can be tested in one session.
"""

import argparse
import json
import logging
import math
import sys
from pathlib import Path

import torch
from torch import nn

import d2host
from d2host import HOST, comm
from d2host.engine.command import argument_parser
from d2host.engine.setup import seed_run, setup_logs, write_config
from d2host.symbols import SYMBOLS


def check_symbols():
    missing = [name for name in SYMBOLS if not hasattr(d2host, name)]
    assert not missing, missing


def check_configuration(folder):
    base, child = folder / "base.yaml", folder / "child.yaml"
    base.write_text("OUTPUT_DIR: seven\nVERSION: 2\n")
    child.write_text("_BASE_: base.yaml\nSEED: 3\nVERSION: 2\n")
    cfg = d2host.get_cfg()
    cfg.NEW = d2host.CfgNode()
    cfg.NEW.KEY = 1
    cfg.merge_from_file(str(child))
    cfg.merge_from_list(["NEW.KEY", "5"])
    assert (cfg.OUTPUT_DIR, cfg.SEED, cfg.NEW.KEY) == ("seven", 3, 5)
    try:
        cfg.merge_from_list(["NEW.OTHER", "5"])
    except (KeyError, AssertionError):
        pass
    else:
        raise AssertionError("an unknown key was accepted")
    assert d2host.get_cfg().SEED == -1


def check_configurable_models():
    @d2host.META_ARCH_REGISTRY.register()
    class ContractModel(nn.Module):
        @d2host.configurable
        def __init__(self, *, width, extra=0):
            super().__init__()
            self.linear, self.extra = nn.Linear(width, width), extra

        @classmethod
        def from_config(cls, cfg):
            return {"width": cfg.SEED}

    cfg = d2host.get_cfg()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE, cfg.SEED = "ContractModel", "cpu", 6
    assert d2host.build_model(cfg).linear.in_features == 6
    assert ContractModel(cfg, extra=4).extra == 4 and ContractModel(width=2).linear.in_features == 2
    assert d2host.ShapeSpec(channels=3).channels == 3


def check_programs():
    """A program's tree holds what it declares, on either host; it can also be added to the host's own."""
    from catseg.config import add_catseg_config, get_catseg_cfg
    from d2host.engine.errors import ConfigError

    own = get_catseg_cfg("", ["MODEL.ENCODER.WEIGHTS", "random"])
    assert (
        "MOMENTUM" not in own.SOLVER and "LR_SCHEDULER_NAME" not in own.dump() and "ANCHOR_GENERATOR" not in own.MODEL
    )
    for key, value in {
        "SOLVER.MOMENTUM": "0.5",
        "SOLVER.GAMMA": "0.1",
        "INPUT.MIN_SIZE_TRAIN_SAMPLING": "range",
    }.items():
        try:
            get_catseg_cfg("", [key, value])
        except ConfigError as error:
            assert key in str(error), error
        else:
            raise AssertionError(f"{key}, which nobody reads, was accepted")
    cfg = d2host.get_cfg()
    add_catseg_config(cfg)
    assert cfg.MODEL.META_ARCHITECTURE == "CATSeg" and "LR_SCHEDULER_NAME" not in cfg.SOLVER


def check_catalogs():
    d2host.DatasetCatalog.register("contract", lambda: [{"file_name": "a"}])
    assert d2host.DatasetCatalog.get("contract") == [{"file_name": "a"}] and "contract" in d2host.DatasetCatalog.list()
    metadata = d2host.MetadataCatalog.get("contract")
    metadata.set(stuff_classes=["a"])
    assert metadata.stuff_classes == ["a"] and metadata.get("absent", 5) == 5 and metadata.name == "contract"
    try:
        metadata.stuff_classes = ["b"]
    except AssertionError:
        pass
    else:
        raise AssertionError("metadata was changed to another value")


def check_objects():
    """What a detector gives, and what evaluators and visualizers take."""
    boxes = d2host.Boxes(torch.tensor([[2.0, 3.0, 12.0, 8.0], [-5.0, 0.0, 1.0, 99.0]]))
    assert boxes.area().tolist() == [50.0, 594.0] and len(boxes[0]) == 1 and boxes.get_centers()[0].tolist() == [7, 5.5]
    boxes.clip((10, 20))
    assert boxes.tensor[1].tolist() == [0, 0, 1, 10] and boxes.nonempty(2.0).tolist() == [True, False]
    boxes.scale(2.0, 0.5)
    assert boxes.tensor[0].tolist() == [4, 1.5, 24, 4] and len(d2host.Boxes.cat([boxes, boxes])) == 4
    assert d2host.BoxMode.convert([1, 2, 3, 4], d2host.BoxMode.XYWH_ABS, d2host.BoxMode.XYXY_ABS) == [1, 2, 4, 6]
    masks = d2host.BitMasks.from_polygon_masks([[[2, 3, 12, 3, 12, 8, 2, 8]], [[0, 0, 0, 0, 0, 0]]], 10, 20)
    assert masks.tensor[0].sum() == 50 and masks.nonempty().tolist() == [True, False]
    assert masks.get_bounding_boxes().tensor.tolist() == [[2, 3, 12, 8], [0, 0, 0, 0]]
    instances = d2host.Instances((10, 20), pred_boxes=boxes)
    instances.scores, instances.pred_masks = torch.tensor([0.9, 0.1]), masks
    chosen = instances[instances.scores > 0.5]
    assert len(chosen) == len(chosen.pred_boxes) == len(chosen.pred_masks) == 1 and chosen.image_size == (10, 20)
    assert instances.has("scores") and set(instances.get_fields()) == {"pred_boxes", "scores", "pred_masks"}
    assert len(instances[-1]) == 1 and instances[1].scores.tolist() == instances[-1].scores.tolist()
    joined = d2host.Instances.cat([instances, chosen.to("cpu")])
    assert len(joined) == 3 and joined.scores.tolist() == instances.scores.tolist() + chosen.scores.tolist()
    for wrong in (lambda: instances.set("labels", torch.zeros(3)), lambda: instances.labels):
        try:
            wrong()
        except (AssertionError, AttributeError):
            continue
        raise AssertionError("a field of another length, or none, was accepted")


class Countdown(d2host.TrainerBase):
    """A trainer whose loss is 1 / (iteration + 1)."""

    def run_step(self):
        self.storage.put_scalars(loss=1 / (self.iter + 1))
        if self.iter == 2:
            self.storage.put_scalar("odd", math.nan, smoothing_hint=False)


def check_training(folder):
    order = []
    trainer = Countdown()
    record = d2host.hooks.CallbackHook(
        before_train=lambda t: order.append("start"), after_train=lambda t: order.append(t.iter)
    )
    evaluate = d2host.hooks.EvalHook(2, lambda: {"set": {"mIoU": 4.0}})
    writers = [d2host.JSONWriter(str(folder / "metrics.json")), d2host.CommonMetricPrinter(5)]
    trainer.register_hooks([d2host.hooks.IterationTimer(0), record, evaluate, d2host.hooks.PeriodicWriter(writers, 1)])
    trainer.train(1, 5)
    assert order == ["start", 5], order
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines][:4] == [1, 2, 3, 4], lines
    assert lines[1]["odd"] is None and "NaN" not in (folder / "metrics.json").read_text()
    assert any(line.get("set/mIoU") == 4.0 for line in lines), lines


def check_evaluation():
    class Count(d2host.DatasetEvaluator):
        def reset(self):
            self.seen = 0

        def process(self, inputs, outputs):
            self.seen += len(inputs)

        def evaluate(self):
            return {"task": {"count": self.seen}}

    results = d2host.DatasetEvaluators([Count()])
    results.reset()
    results.process([1, 2], [1, 2])
    assert results.evaluate()["task"]["count"] == 2
    d2host.print_csv_format({"sem_seg": {"mIoU": 1.0, "IoU-cat": 2.0}})
    cfg = d2host.get_cfg()
    cfg.TEST.EXPECTED_RESULTS = [["sem_seg", "mIoU", 1.0, 0.1]]
    assert d2host.verify_results(cfg, {"sem_seg": {"mIoU": 1.05}})


def check_checkpointer(folder):
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    d2host.DetectionCheckpointer(model, str(folder)).save("weights")
    d2host.DetectionCheckpointer(other, str(folder)).resume_or_load("", resume=True)
    assert torch.equal(model.weight, other.weight) and (folder / "last_checkpoint").is_file()


def check_setup(folder):
    cfg = d2host.get_cfg()
    cfg.OUTPUT_DIR, cfg.SEED = str(folder / "run"), 5
    config = folder / "setup.yaml"
    config.write_text("SEED: 5\nVERSION: 2\n")
    args = argument_parser().parse_args(["--config-file", str(config), "--resume", "SEED", "5"])
    assert isinstance(args, argparse.Namespace) and args.resume and args.opts == ["SEED", "5"] and args.num_gpus == 1
    setup_logs(cfg.OUTPUT_DIR, args)
    write_config(cfg)
    seed_run(cfg)
    first = torch.rand(1)
    d2host.seed_all_rng(5)
    assert torch.equal(torch.rand(1), first)
    assert (folder / "run" / "config.yaml").is_file()
    assert str(HOST) in (folder / "run" / "log.txt").read_text().splitlines()[0]
    assert isinstance(d2host.setup_logger(str(folder / "run"), name="contract"), logging.Logger)
    assert (comm.get_world_size(), comm.get_rank(), comm.is_main_process()) == (1, 0, True)
    assert comm.gather({"a": 1}) == [{"a": 1}]


def main(folder):
    check_symbols()
    check_configuration(folder)
    check_configurable_models()
    check_programs()
    check_catalogs()
    check_objects()
    check_training(folder)
    check_evaluation()
    check_checkpointer(folder)
    check_setup(folder)
    print(f"contract holds on {HOST.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
