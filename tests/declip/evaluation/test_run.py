import json

import pytest
import torch
from torch import nn

from catseg.config import get_catseg_cfg
from d2host.engine.errors import ConfigError
from declip.evaluation import evaluate_datasets
from declip.evaluation.run import results_table

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
    assert (inference / NAME / "per_class.csv").is_file() and (
        inference / NAME / "visualizations/overview.png"
    ).is_file()


def test_a_run_without_test_sets_says_what_to_set(tmp_path):
    cfg = get_catseg_cfg("declip_catseg_nano.yaml", ["DATASETS.TEST", "()", "OUTPUT_DIR", str(tmp_path)])
    with pytest.raises(ConfigError, match=r"DATASETS\.TEST names no dataset to evaluate on: set it"):
        evaluate_datasets(cfg, Oracle())


def test_a_table_has_group_columns_where_a_dataset_has_groups():
    headers, rows = results_table(
        {
            "plain": {"sem_seg": {"mIoU": 1.0, "pACC": 2.0, "IoU-cat": 3.0}},
            "grouped": {"sem_seg": {"mIoU": 4.0, "mIoU_seen": 5.5, "hIoU": 6.0}},
        }
    )
    assert headers == ["dataset", "mIoU", "pACC", "mIoU_seen", "hIoU"]
    assert rows == [["plain", 1.0, 2.0, None, None], ["grouped", 4.0, None, 5.5, 6.0]]
