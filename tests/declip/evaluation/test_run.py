import json

import torch
from torch import nn

from catseg.config import get_catseg_cfg
from declip.evaluation import evaluate_datasets, results_table

NAME = "evaluation_test_images"


class Oracle(nn.Module):
    """Answers with the labels it is given, ignored pixels as class 0."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.vocabularies = []

    def set_vocabulary(self, vocabulary):
        self.vocabularies.append(list(vocabulary))

    def forward(self, batch):
        assert not self.training and not torch.is_grad_enabled()
        labels = [torch.from_numpy(sample["labels"]) for sample in batch]
        return [{"sem_seg": torch.where(label == 255, 0, label)} for label in labels]


def test_a_run_switches_vocabularies_writes_everything_and_restores_the_mode(records, tmp_path):
    opts = ["DATASETS.TEST", f"('{NAME}',)", "OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", "0"]
    model = Oracle().train()
    results = evaluate_datasets(get_catseg_cfg("declip_catseg_nano.yaml", opts), model)
    assert model.vocabularies == [["a", "b, bee", "c", "d"]] and model.training
    assert results[NAME]["sem_seg"]["mIoU"] == 100
    inference = tmp_path / "inference"
    assert json.loads((inference / "results.json").read_text())[NAME]["pACC"] == 100
    assert NAME in (inference / "results.md").read_text()
    assert (inference / NAME / "per_class.csv").is_file() and (inference / NAME / "pictures/overview.png").is_file()


def test_a_table_has_group_columns_where_a_dataset_has_groups():
    results = {
        "plain": {"sem_seg": {"mIoU": 1.0, "pACC": 2.0, "IoU-cat": 3.0}},
        "grouped": {"sem_seg": {"mIoU": 4.0, "mIoU_seen": 5.5, "hIoU": 6.0}},
    }
    table = results_table(results)
    assert "mIoU_seen" in table and "5.50" in table and "IoU-cat" not in table
