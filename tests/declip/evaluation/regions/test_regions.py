import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from d2host.engine.errors import CheckpointError, DataError
from declip import build_encoder
from declip.evaluation.regions import RegionAccuracy, RegionMethod, classify_regions, compare_regions, load_region_set
from declip.evaluation.regions.accuracy import class_ranks, class_scores
from declip.evaluation.regions.report import write_report
from declip.models.attention import ContextType


@pytest.fixture
def coco(tmp_path):
    for name in ("1.jpg", "2.jpg"):
        Image.fromarray(np.zeros((40, 64, 3), np.uint8)).save(tmp_path / name)
    ids = np.zeros((40, 64, 3), np.uint8)
    ids[:, :, 0], ids[:, :, 1] = 5, 1  # id 261
    ids[5:35, 10:30] = (9, 0, 0)
    (tmp_path / "panoptic").mkdir()
    segments = [
        {"id": 261, "category_id": 90, "bbox": [0, 0, 64, 40], "area": 1960, "iscrowd": 0},
        {"id": 9, "category_id": 3, "bbox": [10, 5, 20, 30], "area": 600, "iscrowd": 0},
        {"id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1},
        {"id": 8, "category_id": 3, "bbox": [0, 0, 7, 9], "area": 63, "iscrowd": 0},
    ]
    for name in ("1.png", "2.png"):
        Image.fromarray(ids).save(tmp_path / "panoptic" / name)
    content = {
        "images": [{"id": 7, "file_name": "1.jpg"}, {"id": 8, "file_name": "2.jpg"}],
        "categories": [{"id": 3, "name": "cat", "isthing": 1}, {"id": 90, "name": "grass", "isthing": 0}],
        "annotations": [
            {"image_id": 7, "file_name": "1.png", "segments_info": segments},
            {"image_id": 8, "file_name": "2.png", "segments_info": segments[:1]},
        ],
    }
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def regions(coco):
    return load_region_set(str(coco), str(coco.parent))


def test_coco_panoptic_regions_are_boxes_and_masks_with_class_indices(regions):
    assert regions.class_names == ("cat", "grass") and regions.is_thing == (True, False)
    first = regions.images[0]
    assert first.boxes.tolist() == [[0, 0, 64, 40], [10, 5, 30, 35]]
    assert first.labels.tolist() == [1, 0]
    masks = first.masks()
    assert masks.flatten(1).sum(dim=1).tolist() == [40 * 64 - 600, 600]
    assert masks[1, 5:35, 10:30].all()


def test_masks_that_are_not_at_hand_are_named(coco):
    regions = load_region_set(str(coco), str(coco.parent), panoptic_root="gone")
    with pytest.raises(DataError, match=r"cannot be read from 'gone/1.png'.*give the folder"):
        regions.images[0].masks()


def test_a_file_that_is_no_panoptic_annotation_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match="is no panoptic annotation file"):
        load_region_set(str(tmp_path / "a.json"))
    for name in ("gone.json", str(tmp_path), "x" * 5000):
        with pytest.raises(DataError, match="is no file that exists: give a panoptic"):
            load_region_set(name)
    for folders in ({"image_root": "."}, {"panoptic_root": "."}):
        with pytest.raises(DataError, match=r"'nano_val' has its own images: .*--image-root"):
            load_region_set("nano_val", **folders)


def test_accuracy_is_averaged_over_classes_that_occur():
    labels, ranks = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 0, 4, 0, 5])
    accuracy = RegionAccuracy.of(ranks, labels, [True, True, False, False])
    assert accuracy.counts.tolist() == [3, 1, 1, 0]
    summary = accuracy.summary()
    assert summary["things_mAcc"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert summary["things_mAcc5"] == 100 and summary["stuff_mAcc"] == summary["stuff_mAcc5"] == 0
    assert math.isnan(RegionAccuracy.of(ranks[:4], labels[:4], [True, True, False, False]).summary()["stuff_mAcc"])


@pytest.mark.parametrize("method", list(RegionMethod))
def test_a_region_is_given_the_class_whose_text_its_feature_matches(regions, method):
    encoder = build_encoder("nano", "random").eval()
    dense, grass = encoder.encode_contexts, encoder.encode_text(["a photo of a grass"])[0].detach()

    def features_of_grass(images, contexts):
        by_context = dense(images, contexts)
        for features in by_context.values():
            features.content[:] = grass[:, None, None]
        return by_context

    encoder.encode_contexts = features_of_grass
    encoder.encode_image = lambda images: grass.expand(len(images), -1)
    summary = classify_regions(encoder, regions, 64, method=method).summary()
    assert (summary["things_mAcc"], summary["stuff_mAcc"]) == (0.0, 100.0)


def test_images_at_once_and_small_sides_change_nothing(regions):
    torch.manual_seed(0)
    encoder = build_encoder("nano", "random").eval()
    for method in RegionMethod:
        results = [
            classify_regions(encoder, regions, 16, method=method, images_at_once=count).summary() for count in (1, 2)
        ]
        assert results[0] == results[1]


def test_kinds_of_features_are_compared_together_as_they_are_alone(regions):
    torch.manual_seed(0)
    encoder = build_encoder("nano", "random").eval()
    contexts, methods = (ContextType.Q, ContextType.MASKCLIP), (RegionMethod.BOXES, RegionMethod.MASKS)
    together = compare_regions(encoder, regions, 64, contexts=contexts, methods=methods)
    assert set(together) == {(context, method) for context in contexts for method in methods}
    for (encoder.context, method), accuracy in together.items():
        alone = classify_regions(encoder, regions, 64, method=method)
        assert accuracy.summary() == alone.summary()


def test_crops_are_not_compared_together_with_dense_features(regions):
    encoder = build_encoder("nano", "random").eval()
    with pytest.raises(ValueError, match="in a call of their own"):
        compare_regions(encoder, regions, 64, contexts=(ContextType.QK,), methods=list(RegionMethod))


def test_the_report_holds_every_class_and_side(regions, tmp_path):
    encoder = build_encoder("nano", "random").eval()
    results = {("qk, boxes", side): classify_regions(encoder, regions, side) for side in (32, 64)}
    table = write_report(results, regions.class_names, tmp_path / "out")
    assert table.count("qk, boxes") == 2
    with open(tmp_path / "out/per_class.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["pixels"], row["class"]) for row in rows} == {(s, c) for s in ("32", "64") for c in ("cat", "grass")}
    assert len(json.loads((tmp_path / "out/results.json").read_text())) == 2
    assert (tmp_path / "out/resolutions.png").stat().st_size > 5000


TEXT = torch.eye(8)[:6]


def ranks_of(features, labels, text=TEXT):
    (scores,) = class_scores(features, [{"labels": labels, "file_name": "a.png"}], text)
    return class_ranks(scores, labels).tolist()


def test_ranks_count_the_classes_that_match_better():
    features = torch.tensor([[0.1, 0.5, 0.4, 0.3, 0.2, 0, 0, 0]])
    assert [ranks_of(features, torch.tensor([label]))[0] for label in range(6)] == [4, 0, 1, 2, 3, 5]


@pytest.mark.parametrize("label", range(6))
def test_a_tie_is_no_hit(label):
    assert ranks_of(torch.ones(1, 8), torch.tensor([label])) == [5]
    equal = TEXT.clone()
    equal[5] = equal[0]
    wanted = 1 if label in (0, 5) else 0
    assert ranks_of(TEXT[[label % 5]], torch.tensor([label]), equal) == [wanted]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 0.0])
def test_features_without_direction_are_refused(value):
    features = torch.ones(2, 8)
    features[1] = value
    with pytest.raises(CheckpointError, match=r"features of regions of a\.png are not finite"):
        ranks_of(features, torch.tensor([0, 1]))


WITHOUT_AREA = {
    "a point": (5, 5, 5, 5),
    "a line": (5, 5, 5, 30),
    "reversed": (30, 30, 5, 5),
    "no number": (math.nan, 0, 5, 5),
    "endless": (0, 0, math.inf, 5),
}


@pytest.mark.parametrize("kind", WITHOUT_AREA)
@pytest.mark.parametrize("method", [RegionMethod.BOXES, RegionMethod.CROPS])
def test_regions_without_area_are_left_out_and_said(regions, kind, method, caplog):
    encoder = build_encoder("nano", "nano-clip").eval()
    expected = classify_regions(encoder, regions, 64, method=method)
    first = regions.images[0]
    box = torch.tensor([WITHOUT_AREA[kind]], dtype=torch.float32)
    extra = {"boxes": box, "labels": torch.tensor([1]), "segment_ids": torch.tensor([4])}
    with_it = {name: torch.cat([value, getattr(first, name)]) for name, value in extra.items()}
    changed = replace(regions, images=(replace(first, **with_it), *regions.images[1:]))
    accuracy = classify_regions(encoder, changed, 64, method=method)
    assert accuracy.counts.tolist() == expected.counts.tolist() and accuracy.summary() == expected.summary()
    assert f"without area are left out, of 1 images, the first {first.file_name}" in caplog.text
    with pytest.raises(DataError, match="no region with an area"):
        classify_regions(encoder, replace(regions, images=(replace(first, **extra),)), 64, method=method)


def test_a_set_without_regions_is_refused(regions):
    with pytest.raises(DataError, match="no region with an area"):
        classify_regions(build_encoder("nano", "nano-clip").eval(), replace(regions, images=()), 64)
