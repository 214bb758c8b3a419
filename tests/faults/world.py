"""Tiny valid files of every kind that the command lines read, and paths at which no such file is.

A world is made once and only read. What a case may damage (its output, its data root, bad paths) is made anew for each,
below a folder of its own.
"""

import json
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

import declip
from declip.data.class_lists import load_class_list
from declip.models.weights import save_encoder
from nanoworld.datasets import SPLITS, _stamp, _write_scene
from nanoworld.weights import shipped_weights
from tests.running import run_program
from tests.tiny_config import tiny_config

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ("2007_000033", "2007_000042")
SUFFIXES = ("", ".txt", ".json", ".tar", ".png", ".safetensors", ".pth", ".pt", ".yaml", ".md")
LONG = "n" * 5000
PHOTOS = {"images": [{"file_name": f"photos/{NAMES[0]}.jpg"}, {"file_name": f"photos/{NAMES[1]}.png"}]}
REGIONS = {
    "images": [{"id": 1, "file_name": f"{NAMES[0]}.jpg", "height": 32, "width": 48}],
    "categories": [{"id": 1, "name": "red ball", "isthing": 1}, {"id": 2, "name": "grass", "isthing": 0}],
    "annotations": [
        {
            "image_id": 1,
            "file_name": "1.png",
            "segments_info": [
                {"id": 7, "category_id": 1, "bbox": [24, 0, 24, 32], "area": 768, "iscrowd": 0},
                {"id": 0, "category_id": 2, "bbox": [0, 0, 24, 32], "area": 768, "iscrowd": 0},
            ],
        }
    ],
}

SEGMENTATION = tiny_config("nano-clip", "voc_2012_test_sem_seg", batch=2, iterations=1, period=0, side=48, workers=0)
DISTILLATION = """
MODEL:
  DEVICE: cpu
  ENCODER: {NAME: nano, WEIGHTS: nano-clip, CONTEXT: qk, ATTENTION_SCALE: none}
  TEACHER: {NAME: nano-vfm}
DATASETS: {IMAGES: WORLD/photos}
INPUT: {STUDENT_SIZE: 32, CROP_SIZE: 16, MAX_SPLIT: 2}
SOLVER: {IMS_PER_BATCH: 2, BASE_LR: 0.0001, WARMUP_ITERS: 0, MAX_ITER: 1, CHECKPOINT_PERIOD: 0}
TEST: {EVAL_PERIOD: 1, REGIONS: WORLD/regions.json, IMAGE_ROOT: WORLD/photos, MAX_IMAGES: 1}
DATALOADER: {NUM_WORKERS: 0}
VERSION: 2
"""
PRETRAINING = """
MODEL:
  DEVICE: cpu
  PRETRAINING: {KIND: vfm, VIEW_SIZE: 32, PHOTOS_PER_SCENE: 1, PHOTO_SIZE: 16}
SOLVER: {IMS_PER_BATCH: 2, MAX_ITER: 1, WARMUP_ITERS: 0, CHECKPOINT_PERIOD: 0}
TEST: {EVAL_PERIOD: 0, MAX_IMAGES: 1}
DATALOADER: {NUM_WORKERS: 0}
VERSION: 2
"""
EVALUATION = (
    *("--encoder", "nano", "--weights", "nano-clip", "--datasets", "voc_2012_test_sem_seg", "--prompts", "name"),
    *("--short-side", "32", "--window", "32", "--stride", "16", "--num-workers", "0"),
)
CAPTIONS = {
    "images": [{"id": 1, "file_name": "2007_000033.jpg"}],
    "annotations": [{"image_id": 1, "caption": "grass"}],
}
STUBS = {  # beside a copy of reproduce.py: what it runs ends at once
    "eval_regions.py": ("--output", "results.json", '[{"things_mAcc": 1, "stuff_mAcc": 2}]'),
    "eval_dense.py": ("--output", "results.json", '{"qk": {"nano_final": {"mIoU": 3}}}'),
    "eval_class_token.py": ("--output", "results.json", '[{"image_to_text_R@1": 4}]'),
    "train_declip.py": ("OUTPUT_DIR", "done", ""),
}


def make_world(folder):
    """Everything that cases read; returns the environment that they run in."""
    environment = {"DETECTRON2_DATASETS": str(folder / "data"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    _make_images(folder)
    (folder / "captions.json").write_text(json.dumps(CAPTIONS))
    _make_weights(folder)
    for name, text in (("catseg", SEGMENTATION), ("distill", DISTILLATION), ("pretrain", PRETRAINING)):
        (folder / f"{name}.yaml").write_text(text.replace("WORLD", str(folder)))
    (folder / "tools").mkdir()
    shutil.copy(REPOSITORY / "tools/reproduce.py", folder / "tools")
    for name, (key, file, text) in STUBS.items():
        (folder / "tools" / name).write_text(
            f"import pathlib, sys\nfolder = pathlib.Path(sys.argv[sys.argv.index({key!r}) + 1])\n"
            f"folder.mkdir(parents=True, exist_ok=True)\n(folder / {file!r}).write_text({text!r})\n"
        )
    for run, program in (("catseg", "train_net"), ("distill", "train_declip"), ("pretrain", "nano/pretrain")):
        options = ("--config-file", folder / f"{run}.yaml", "OUTPUT_DIR", folder / "runs" / run)
        result = run_program(REPOSITORY / f"tools/{program}.py", *options, env=environment)
        assert result.returncode == 0, result.stderr
    dense = (*EVALUATION, "--cache", folder / "embeddings", "--output", folder / "dense")
    assert run_program(REPOSITORY / "tools/eval_dense.py", *dense, env=environment).returncode == 0
    tables = ("--table", "8", "--seeds", "1", "--output", "reproduced")
    assert run_program(folder / "tools/reproduce.py", *tables, env=environment, cwd=folder).returncode == 0
    _make_raw(folder / "raw")
    return environment


def make_case(folder):
    """The folder of a case: where it runs, and paths that are not what is asked for."""
    (folder / "cwd").mkdir(parents=True)
    bad = folder / "bad"
    bad.mkdir()
    (bad / "loop").symlink_to(bad / "loop")
    for suffix in SUFFIXES:
        (bad / f"empty{suffix}").touch()
        (bad / f"rubbish{suffix}").write_bytes(bytes(range(256)) * 8)
        (bad / f"folder{suffix}").mkdir()
        (bad / f"dangling{suffix}").symlink_to(bad / "gone" / "away")
        os.mkfifo(bad / f"pipe{suffix}")
    (bad / "photos").mkdir()
    os.mkfifo(bad / "photos/pipe.png")
    (bad / "broken").mkdir()
    (bad / "broken/image.png").write_bytes(b"no image")
    return folder


def _image(path, size=(48, 32), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def _labels(path, *values, size=(48, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.array([values[row % len(values)] for row in range(size[1])])
    rows = np.repeat(rows[:, None], size[0], axis=1)
    Image.fromarray(rows.astype(np.uint8)).save(path)
    return rows


def _make_images(folder):
    voc = folder / "data/VOCdevkit/VOC2012"
    for seed, name in enumerate(NAMES):
        _image(voc / f"JPEGImages/{name}.jpg", seed=seed)
        _labels(voc / f"annotations_detectron2/val/{name}.png", 0, 3, 19, 255)
        _image(folder / PHOTOS["images"][seed]["file_name"], seed=seed)
    ids = np.zeros((32, 48, 3), np.uint8)
    ids[:, 24:, 0] = 7
    (folder / "regions").mkdir()
    Image.fromarray(ids).save(folder / "regions/1.png")
    (folder / "regions.json").write_text(json.dumps(REGIONS))
    (folder / "classes.txt").write_text("grass\nred ball\n# remark\nsky, blue sky\n")
    nano, split = folder / "data/nano/val", SPLITS["nano_val"]
    for kind in ("images", "labels", "panoptic"):
        (nano / kind).mkdir(parents=True)
    scenes = {"split": _stamp(split), "scenes": [_write_scene(nano, split, 0)]}
    (nano / "scenes.json").write_text(json.dumps(scenes))
    photos = sorted((folder / "photos").iterdir())
    (folder / "photos.txt").write_text("".join(f"photos/{photo.name}\n" for photo in photos))
    (folder / "photos.json").write_text(json.dumps(PHOTOS))
    with tarfile.open(folder / "photos.tar", "w") as shard:
        for photo in photos:
            shard.add(photo, photo.name)


def _make_weights(folder):
    encoder = declip.build_encoder("nano", "nano-clip", context="qk")
    save_encoder(encoder, folder / "encoder.safetensors")
    state = encoder.clip.state_dict()
    torch.save({"state_dict": state}, folder / "encoder.pth")
    torch.jit.script(_Holder(state)).save(str(folder / "encoder.pt"))
    shutil.copy(shipped_weights("nano-vfm"), folder / "vfm.safetensors")


class _Holder(torch.nn.Module):
    """A module with the tensors of a state dict under their names."""

    def __init__(self, state):
        super().__init__()
        for name, tensor in state.items():
            *parents, leaf = name.split(".")
            module = self
            for parent in parents:
                if parent not in module._modules:
                    module.add_module(parent, torch.nn.Identity())
                module = module._modules[parent]
            module.register_buffer(leaf, tensor.half() if tensor.is_floating_point() else tensor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def _make_raw(raw):
    """The trees that each preparation expects, below a folder called like its script."""
    for script in ("coco_stuff", "coco_object"):
        for split in ("train2017", "val2017"):
            _image(raw / script / f"coco/{split}/1.jpg")
            _labels(raw / script / f"coco/stuffthingmaps/{split}/1.png", 0, 89, 91, 181, 255)
    coco = raw / "coco_panoptic/coco"
    shutil.copytree(raw.parent / "regions", coco / "annotations/panoptic_val2017")
    shutil.copy(raw.parent / "regions.json", coco / "annotations/panoptic_val2017.json")
    voc = raw / "voc/VOCdevkit/VOC2012"
    _image(voc / "JPEGImages/1.jpg")
    _labels(voc / "SegmentationClass/1.png", 0, 1, 20, 255)
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/val.txt").write_text("1\n")
    context = raw / "pascal_context/VOCdevkit/VOC2010"
    names = load_class_list("pascal_context_459")
    _image(context / "JPEGImages/1.jpg")
    (context / "labels.txt").write_text("\n".join(f"{value}: {name}" for value, name in enumerate(names, start=1)))
    (context / "pascalcontext_val.txt").write_text("1\n")
    (context / "trainval").mkdir()
    savemat(context / "trainval/1.mat", {"LabelMap": np.tile(np.array([[1, 2], [3, 459]], np.uint16), (16, 24))})
    city = raw / "cityscapes/cityscapes"
    _image(city / "leftImg8bit/val/ulm/ulm_leftImg8bit.png")
    _labels(city / "gtFine/val/ulm/ulm_gtFine_labelIds.png", 0, 7, 33, 4)
    full = raw / "ade20k_847/ADE20K_2021_17_01"
    _image(full / "images/ADE/validation/street/1.jpg", size=(8, 6))
    values = np.repeat(np.array([0, 1, 3, 849, 2, 4])[:, None], 8, axis=1)
    seg = np.stack([values // 256 * 10, values % 256, values * 0], axis=-1).astype(np.uint8)
    Image.fromarray(seg).save(full / "images/ADE/validation/street/1_seg.png")
    objects = {"objectnames": ["-", "door handle", *load_class_list("ade20k_847")], "counts": np.zeros(3)}
    (full / "index_ade20k.pkl").write_bytes(pickle.dumps(objects))
    archive = raw / "ade20k_150/ADEChallengeData2016.zip"
    archive.parent.mkdir()
    _image(raw.parent / "ade.jpg")
    _labels(raw.parent / "ade.png", 0, 1, 150)
    with zipfile.ZipFile(archive, "w") as content:
        for file, folder in (("ade.jpg", "images"), ("ade.png", "annotations")):
            content.write(raw.parent / file, f"ADEChallengeData2016/{folder}/validation/1{Path(file).suffix}")
