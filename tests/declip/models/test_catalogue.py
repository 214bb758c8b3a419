import re
from pathlib import Path

import open_clip
import pytest

from d2host.engine.errors import ConfigError
from declip.models.catalogue import catalogue_page, describe_encoder

PAGE = Path(__file__).resolve().parents[3] / "docs" / "encoders.md"
SMALL = ("EVA02-B-16", "PE-Core-T-16-384", "ViT-S-32", "coca_ViT-B-32", "ViT-B-16-SigLIP2", "RN50", "roberta-ViT-B-32")


def version():
    return re.search(r"open_clip (\S+)\. ", PAGE.read_text()).group(1)


def test_the_page_has_every_name_once():
    names = re.findall(r"^\| `(\S+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    assert len(names) == len(set(names))
    if open_clip.__version__ == version():
        assert set(names) == set(open_clip.list_models())


@pytest.mark.parametrize("name", SMALL)
def test_the_page_says_what_is_built(name):
    entry = describe_encoder(name)
    cells = (f"`{name}`", entry.missing) if entry.missing else entry.row()
    assert f"| {' | '.join(cells)} |".replace("|  |", "| |") in PAGE.read_text().splitlines()


def test_a_page_is_made_of_any_names():
    page = catalogue_page(["RN50", "ViT-S-32"])
    assert "1 of the 2 models" in page and "| `ViT-S-32` | 224 | 32 | 12 | 384 | 384 | all | |" in page


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match=r"'PE-Core-B16' is unknown: did you mean .*PE-Core-B-16"):
        describe_encoder("PE-Core-B16")


@pytest.mark.slow
def test_the_page_is_current():
    if open_clip.__version__ != version():
        pytest.skip(f"the page is of open_clip {version()}")
    assert catalogue_page(open_clip.list_models()) == PAGE.read_text()
