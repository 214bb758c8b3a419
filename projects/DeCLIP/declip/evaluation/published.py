"""Published results, to stand beside measured ones: mIoU in percent by dataset.

Sources: the model zoo of CAT-Seg (CVPR 2024), trained on COCO-Stuff; DeCLIP (CVPR 2025), Table 4.
"""

PUBLISHED = {
    "CAT-Seg ViT-B/16": {
        "ade20k_full_sem_seg_freq_val_all": 12.0,
        "context_459_test_sem_seg": 19.0,
        "ade20k_150_test_sem_seg": 31.8,
        "context_59_test_sem_seg": 57.5,
        "voc_2012_test_sem_seg": 94.6,
        "voc_2012_test_background_sem_seg": 77.3,
    },
    "CAT-Seg ViT-L/14": {
        "ade20k_full_sem_seg_freq_val_all": 16.0,
        "context_459_test_sem_seg": 23.8,
        "ade20k_150_test_sem_seg": 37.9,
        "context_59_test_sem_seg": 63.3,
        "voc_2012_test_sem_seg": 97.0,
        "voc_2012_test_background_sem_seg": 82.5,
    },
    "DeCLIP-CAT-Seg ViT-B/16": {"ade20k_150_test_sem_seg": 36.3},
    "DeCLIP-CAT-Seg ViT-L/14": {"ade20k_150_test_sem_seg": 40.7},
}


def published_columns(dataset_names: list[str]) -> dict[str, list[float | None]]:
    """Title → mIoU of each dataset, None where there is none; no column where no dataset has a value."""
    columns = {f"published {row}": [values.get(name) for name in dataset_names] for row, values in PUBLISHED.items()}
    return {title: values for title, values in columns.items() if any(value is not None for value in values)}
