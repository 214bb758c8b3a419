import pytest
import torch
from PIL import Image

from catseg.config import get_catseg_cfg
from catseg.loader import build_train_loader
from catseg.mapper import TrainMapper
from d2host import DatasetCatalog, MetadataCatalog
from d2host.engine.errors import ConfigError, DataError
from d2host.engine.loading import per_process_batch
from declip.data import mapper as mappers
from declip.data.datasets import dataset_metadata
from declip.data.loader import build_test_loader
from declip.data.reading import LabelFormat
from nanoworld.world import render_scene

NAME = "loader_test_scenes"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Ten nano scenes with labels, registered under a name of their own."""
    folder, classes = tmp_path_factory.mktemp("scenes"), list(dataset_metadata("nano_val_unseen").stuff_classes)
    records = []
    for index in range(10):
        scene = render_scene(0, index)
        files = folder / f"{index}.png", folder / f"{index}_labels.png"
        Image.fromarray(scene.image).save(files[0])
        Image.fromarray(scene.class_map(classes)).save(files[1])
        record = {"file_name": str(files[0]), "sem_seg_file_name": str(files[1]), "image_id": str(index)}
        records.append({**record, "height": 128, "width": 128})
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(stuff_classes=classes, ignore_label=255)
    yield records
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def config(*opts):
    base = ["DATASETS.TRAIN", f"('{NAME}',)", "DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "4"]
    return get_catseg_cfg("declip_catseg_nano.yaml", [*base, *opts])


def take(loader, count):
    batches = iter(loader)
    return [next(batches) for _ in range(count)]


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert [sample["image_id"] for sample in batch] == [sample["image_id"] for sample in other]
        for sample, twin in zip(batch, other, strict=True):
            assert torch.equal(sample["image"], twin["image"]) and torch.equal(sample["sem_seg"], twin["sem_seg"])


def test_batches_do_not_depend_on_the_number_of_workers(scenes):
    alone = take(build_train_loader(config()), 4)
    assert_same(take(build_train_loader(config("DATALOADER.NUM_WORKERS", "2")), 4), alone)


def test_a_loader_from_a_later_iteration_continues_the_same_order(scenes):
    cfg = config("SOLVER.ACCUMULATION_STEPS", "2")
    assert_same(take(build_train_loader(cfg, start_iter=2), 3), take(build_train_loader(cfg), 7)[4:])


def test_augmentation_differs_between_epochs(scenes):
    first, later = (
        {sample["image_id"]: sample["image"] for batch in batches for sample in batch}
        for batches in (take(build_train_loader(config()), 2), take(build_train_loader(config(), start_iter=5), 2))
    )
    shared = first.keys() & later.keys()
    assert shared and any(not torch.equal(first[key], later[key]) for key in shared)


def test_loading_leaves_the_global_generator_alone(scenes):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    take(build_train_loader(config()), 2)
    assert torch.equal(torch.rand(1), expected)


def test_a_test_loader_yields_every_image_once_with_its_original_size(scenes):
    batches = list(build_test_loader(config("INPUT.MIN_SIZE_TEST", "64"), NAME))
    assert [batch[0]["image_id"] for batch in batches] == [str(index) for index in range(10)]
    sample = batches[0][0]
    assert sample["image"].shape == (3, 64, 64) and (sample["height"], sample["width"]) == (128, 128)


def test_training_samples_are_crops_of_the_configured_size(scenes):
    cfg = config("INPUT.CROP.SIZE", "(64, 96)", "INPUT.COLOR_AUG_SSD", "True")
    for sample in take(build_train_loader(cfg), 1)[0]:
        assert sample["image"].shape == (3, 64, 96) and sample["image"].dtype == torch.uint8
        assert sample["sem_seg"].shape == (64, 96) and sample["sem_seg"].dtype == torch.int64


def test_a_label_of_another_size_is_named(scenes, tmp_path):
    Image.new("L", (20, 20)).save(tmp_path / "small.png")
    mapper = TrainMapper(LabelFormat(54), (128,), 512, None)
    with pytest.raises(DataError, match=r"small\.png is 20x20, its image .*0\.png is 128x128"):
        mapper({**scenes[0], "sem_seg_file_name": str(tmp_path / "small.png")}, None)


def test_a_test_image_keeps_its_aspect(scenes, tmp_path):
    Image.new("RGB", (30, 60)).save(tmp_path / "tall.png")
    sample = mappers.TestMapper(15, 1000)({"file_name": str(tmp_path / "tall.png")})
    assert sample["image"].shape == (3, 30, 15) and (sample["height"], sample["width"]) == (60, 30)


def test_a_batch_must_divide_by_the_processes():
    assert per_process_batch(8, 2) == 4
    with pytest.raises(ConfigError, match=r"IMS_PER_BATCH. does not divide by 3 processes"):
        per_process_batch(4, 3)
