"""Default configuration: the keys of Detectron2's tree that the embedded host itself reads, with the same values.

What a program reads beyond them it declares itself (:mod:`d2host.engine.config`).
"""

DEFAULTS = {
    "VERSION": 2,
    "MODEL": {
        "META_ARCHITECTURE": "",
        "DEVICE": "cuda",
        "BACKBONE": {"NAME": ""},
        "SEM_SEG_HEAD": {"NAME": ""},
    },
    "TEST": {"EXPECTED_RESULTS": []},
    "OUTPUT_DIR": "./output",
    "SEED": -1,
    "CUDNN_BENCHMARK": False,
}
