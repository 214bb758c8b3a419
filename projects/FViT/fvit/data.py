"""The datasets of a run: what training teaches, batches to learn from, and images to detect on."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from d2host import Boxes, BoxMode, DatasetCatalog, Instances, MetadataCatalog
from d2host.engine.loading import endless_loader
from declip.data.datasets import register_datasets
from declip.data.loader import evaluation_loader
from declip.data.reading import read_image


def taught_classes(names: Sequence[str]) -> tuple[Sequence[str], Sequence[int]]:
    register_datasets()
    metadata = MetadataCatalog.get(names[0])
    return metadata.thing_classes, metadata.get("novel_classes", ())


class Mapper:
    def __init__(self, side):
        self.side = side

    def __call__(self, record, rng=None):
        import torch.nn.functional as F

        image = torch.from_numpy(read_image(record["file_name"]).copy()).permute(2, 0, 1)
        h, w = image.shape[1:]
        s = self.side / max(h, w)
        size = (round(h * s), round(w * s))
        image = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0].round().byte()
        out = {k: v for k, v in record.items() if k != "annotations"} | {"image": image}
        if rng is not None:
            boxes = torch.tensor(
                [
                    BoxMode.convert(list(a["bbox"]), BoxMode(a["bbox_mode"]), BoxMode.XYXY_ABS)
                    for a in record["annotations"]
                ],
                dtype=torch.float32,
            ).reshape(-1, 4) * torch.tensor([size[1] / w, size[0] / h] * 2)
            if rng.random() < 0.5:
                out["image"] = image.flip(2)
                boxes = boxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([size[1], 0, size[1], 0])
            out["instances"] = Instances(
                size, gt_boxes=Boxes(boxes), gt_classes=torch.tensor([a["category_id"] for a in record["annotations"]])
            )
        return out


class TrainDataset(Dataset):
    def __init__(self, records, mapper, seed):
        self.records, self.mapper, self.seed = records, mapper, seed

    def __len__(self):
        return len(self.records)

    def __getitem__(self, address):
        epoch, index = address
        return self.mapper(self.records[index], np.random.default_rng((self.seed, epoch, index)))


def build_train_loader(cfg, start_iter=0):
    records = [r for n in cfg.DATASETS.TRAIN for r in DatasetCatalog.get(n)]
    return endless_loader(
        TrainDataset(records, Mapper(cfg.INPUT.IMAGE_SIZE), max(cfg.SEED, 0)),
        seed=max(cfg.SEED, 0),
        images_per_batch=cfg.SOLVER.IMS_PER_BATCH,
        accumulation_steps=cfg.SOLVER.ACCUMULATION_STEPS,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        start_iter=start_iter,
    )


def build_test_loader(cfg, name):
    register_datasets()
    return evaluation_loader(DatasetCatalog.get(name), Mapper(cfg.INPUT.IMAGE_SIZE), cfg.DATALOADER.NUM_WORKERS)


def check_inputs(cfg, training):
    pass


def require_test_sets(cfg):
    pass
