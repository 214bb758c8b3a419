from declip.data.benchmarks import FOLDER_DATASETS
from declip.evaluation.published import PUBLISHED, published_columns
from declip.evaluation.run import results_table


def test_published_results_are_of_registered_benchmarks():
    assert all(set(row) <= set(FOLDER_DATASETS) for row in PUBLISHED.values())


def test_published_results_stand_beside_measured_ones():
    results = {"voc_2012_test_sem_seg": {"sem_seg": {"mIoU": 1.0}}, "nano_val": {"sem_seg": {"mIoU": 2.0}}}
    header, _, voc, nano = results_table(results).splitlines()
    assert "published CAT-Seg ViT-B/16" in header
    assert "94.60" in voc and "97.00" in voc and nano.count("-") >= 2


def test_a_table_without_benchmarks_has_no_published_columns():
    assert published_columns(["nano_val"]) == {}
