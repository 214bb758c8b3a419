import pytest
import torch
import torch.nn.functional as F

from declip.evaluation.class_token import retrieval_recall


def plain_recall(queries, candidates, relevant, k):
    """By sorting every row whole."""
    hits = []
    for query, own in zip(queries, relevant, strict=True):
        order = sorted(range(len(candidates)), key=lambda index: -float(query @ candidates[index]))
        hits.append(bool({*order[:k]} & {*own}))
    return 100 * sum(hits) / len(hits)


def test_it_counts_the_queries_with_one_of_theirs_among_the_first():
    torch.manual_seed(0)
    queries, candidates = torch.randn(300, 8), F.normalize(torch.randn(40, 8), dim=1)
    relevant = [[index % 40, (index * 7) % 40] for index in range(300)]
    found = retrieval_recall(queries, candidates, relevant, at=(1, 5, 10))
    expected = {f"R@{k}": plain_recall(queries, candidates, relevant, k) for k in (1, 5, 10)}
    assert found == pytest.approx(expected)


def test_a_tie_is_no_hit():
    same = torch.ones(3, 2)
    assert retrieval_recall(same, same, [[0], [1], [2]], at=(1, 3)) == {"R@1": 0.0, "R@3": 100.0}


def test_several_that_are_relevant_do_not_stand_in_each_others_way():
    texts = torch.eye(3)
    query = torch.tensor([[0.9, 1.0, 0.1]])
    assert retrieval_recall(query, texts, [[0, 1]], at=(1,)) == {"R@1": 100.0}
    assert retrieval_recall(query, texts, [[0]], at=(1, 2)) == {"R@1": 0.0, "R@2": 100.0}
