"""The names that both hosts supply, and where the embedded host has them."""

EMBEDDED = {
    "catalog": ("DatasetCatalog", "MetadataCatalog"),
    "checkpoint": ("DetectionCheckpointer", "PeriodicCheckpointer"),
    "config": ("CfgNode", "configurable", "get_cfg"),
    "evaluation": (
        "DatasetEvaluator",
        "DatasetEvaluators",
        "inference_on_dataset",
        "print_csv_format",
        "verify_results",
    ),
    "events": ("EventStorage", "get_event_storage"),
    "instances": ("Instances",),
    "models": (
        "BACKBONE_REGISTRY",
        "Backbone",
        "META_ARCH_REGISTRY",
        "Registry",
        "SEM_SEG_HEADS_REGISTRY",
        "ShapeSpec",
        "build_backbone",
        "build_model",
        "build_sem_seg_head",
    ),
    "setup": ("seed_all_rng", "setup_logger"),
    "structures": ("BitMasks", "BoxMode", "Boxes"),
    "train_loop": ("HookBase", "TrainerBase"),
    "writers": ("CommonMetricPrinter", "JSONWriter", "TensorboardXWriter"),
}
"""Module of :mod:`d2host.embedded` → names it supplies."""

SUBMODULES = ("comm", "hooks")

SYMBOLS = tuple(sorted([*SUBMODULES, *(name for names in EMBEDDED.values() for name in names)]))
