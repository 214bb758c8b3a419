import math

import pytest

from d2host.engine.errors import ConfigError, DataError
from declip.data.benchmarks import FOLDER_DATASETS
from declip.data.class_lists import load_class_list
from declip.evaluation.zero_shot import DATASETS, Protocol, Vocabulary, protocol_of, zero_shot_vocabulary


def test_presets_are_those_published():
    assert protocol_of("declip", "voc21") == Protocol(448, 336, 112, 80.0, 0.4)
    assert protocol_of("declip", "ade150") == Protocol(448, 336, 112, 40.0, 0.0)
    assert protocol_of("clearclip", "coco_2017_test_object_sem_seg") == Protocol(448, 448, 224, 50.0, 0.4)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="stride 0"):
        Protocol(stride=0)
    with pytest.raises(ConfigError, match=r"threshold 1\.5"):
        Protocol(threshold=1.5)
    with pytest.raises(ConfigError, match="preset 'mine' is unknown"):
        protocol_of("mine", "voc21")


IMPOSSIBLE = [
    *({"short_side": side} for side in (-1, 10**6)),
    *({"window": side} for side in (-1, 64, 111)),  # narrower than the stride of 112: gaps
    *({"stride": side} for side in (0, -16, 337)),
    *({"logit_scale": scale} for scale in (0, -1.0, math.nan, math.inf)),
    *({"threshold": share} for share in (-0.1, 1.0, 2.0, math.nan)),
]


@pytest.mark.parametrize("setting", IMPOSSIBLE, ids=str)
def test_settings_that_would_give_no_labels_are_refused(setting):
    with pytest.raises(ConfigError):
        Protocol(**setting)


def test_a_whole_image_has_no_gaps():
    assert Protocol(window=0, stride=500).window == 0


@pytest.mark.parametrize("lines", [["grass", ";"], ["grass", " , "], "grass", [], ["grass", ""], [None]])
def test_a_vocabulary_names_every_class(lines):
    with pytest.raises(DataError):
        Vocabulary.of(lines)


@pytest.mark.parametrize("short_name", DATASETS)
def test_every_benchmark_has_a_name_per_class_in_label_order(short_name):
    dataset = FOLDER_DATASETS[DATASETS[short_name]]
    vocabulary, classes = zero_shot_vocabulary(DATASETS[short_name]), load_class_list(dataset.classes)
    assert len(vocabulary.synonyms) == len(classes)
    has_background = "background" in classes
    assert (vocabulary.background is not None) == has_background
    if has_background:
        assert classes[vocabulary.background] == "background"
    similar = sum(
        names[0].replace(" ", "")[:3] == name.replace(" ", "")[:3]
        for names, name in zip(vocabulary.synonyms, classes, strict=True)
    )
    assert similar > 0.85 * len(classes)
