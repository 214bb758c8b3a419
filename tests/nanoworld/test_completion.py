import numpy as np
import pytest
import torch

from nanoworld.completion import best_f_score, boundary_strengths, evaluate_rows, row_auroc
from nanoworld.evaluation import affinity_auroc, patch_segments, scenes_of


def test_the_auroc_of_rows_is_the_mean_of_each_rows_own():
    generator = np.random.default_rng(0)
    affinities, segments = generator.standard_normal((7, 7)), np.array([0, 0, 1, 1, 1, 0, 2])
    rows = []
    for index in range(6):  # the last has no other patch of its segment
        others = np.arange(7) != index
        rows.append(affinity_auroc(affinities[index, others], (segments == segments[index])[others]))
    assert row_auroc(affinities, segments) == pytest.approx(np.mean(rows))
    assert np.isnan(row_auroc(affinities, np.zeros(7)))


def test_borders_are_where_rows_of_neighbours_differ():
    segments = torch.tensor([[0, 0, 1], [0, 1, 1]]).flatten()
    across, down = boundary_strengths((segments[:, None] == segments).float(), (2, 3))
    torch.testing.assert_close(across, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(down, torch.tensor([[0.0, 1.0, 0.0]]))


def test_the_f_score_is_the_best_of_all_thresholds():
    strengths, borders = np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])
    assert best_f_score(strengths, borders) == pytest.approx(2 * 2 / (3 + 2))
    assert best_f_score(borders.astype(float), borders) == 1


def test_affinities_that_are_the_segments_themselves_are_perfect():
    scenes = scenes_of(77, 2)
    truths = [torch.from_numpy(patch_segments(scene.segment_ids, 8)[0]).flatten() for scene in scenes]
    affinities = [(segments[:, None] == segments).float() for segments in truths]
    assert evaluate_rows(affinities, scenes) == {"row_auroc": 1.0, "boundary_f": pytest.approx(1.0)}
