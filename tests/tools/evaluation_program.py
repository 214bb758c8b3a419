"""Each kind of evaluation once, for test_evaluation_processes.py: evaluation_program.py PROCESSES FOLDER CONFIG."""

import sys
from pathlib import Path

from d2host.engine.distributed import launch

MAX_IMAGES, TOGETHER = 7, 2  # of which the last batch is not whole, and the processes have unequal shares


def main(folder, config):
    import torch

    import catseg.modeling  # noqa: F401 (registers the meta-architecture)
    from catseg.config import get_catseg_cfg
    from d2host import build_model
    from declip import build_encoder
    from declip.contexts import ContextType
    from declip.data.root import dataset_root
    from declip.evaluation.regions import RegionMethod, RegionOptions, evaluate_regions, load_region_set
    from declip.evaluation.run import evaluate_datasets
    from declip.evaluation.zero_shot.protocol import protocol_of
    from declip.evaluation.zero_shot.run import ZeroShotOptions, evaluate_zero_shot
    from declip.models.templates import Templates

    torch.set_num_threads(1)
    encoder = build_encoder("nano", "nano-clip").eval()
    contexts = [ContextType.QK, ContextType.MASKCLIP]
    same = {"templates": Templates.NAME, "num_workers": 0, "max_images": MAX_IMAGES, "images_at_once": TOGETHER}
    same["save_predictions"] = True
    protocols = {"nano_val": protocol_of("nano", "nano_val")}
    evaluate_zero_shot(encoder, contexts, protocols, folder / "dense", ZeroShotOptions(**same))
    regions = load_region_set("nano_val", "", dataset_root())
    options = RegionOptions(**same)
    evaluate_regions(encoder, regions, contexts, list(RegionMethod), [64], folder / "regions", options)
    torch.manual_seed(0)
    opts = ["OUTPUT_DIR", str(folder / "catseg"), "TEST.SAVE_PREDICTIONS", "True", "DATALOADER.NUM_WORKERS", "0"]
    cfg = get_catseg_cfg(config, opts)
    evaluate_datasets(cfg, build_model(cfg))


if __name__ == "__main__":
    launch(main, int(sys.argv[1]), (Path(sys.argv[2]), sys.argv[3]))
