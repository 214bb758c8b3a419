import pytest

from catseg.config import get_catseg_cfg
from declip.distill import get_distillation_cfg
from declip.other_contexts import parse_contexts
from nanoworld.reproduce import TABLES, RowKind

ROWS = [row for table in TABLES.values() for row in table.rows]


def value_of(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return str(cfg)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_options_of_every_row_arrive_in_the_config_they_are_for(row):
    match row.kind:
        case RowKind.ORIGINAL:
            assert [context.value for context in parse_contexts(row.options)] == list(row.options) != []
            return
        case RowKind.DISTILLED:
            cfg = get_distillation_cfg("distill_nano.yaml", row.options)
        case RowKind.SEGMENTER:
            cfg = get_catseg_cfg("declip_catseg_nano.yaml", row.options)
    assert [value_of(cfg, key) for key in row.options[::2]] == list(row.options[1::2])


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: str(table.number))
def test_claims_are_about_rows_and_metrics_of_their_table(table):
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names)
    for claim in table.claims:
        assert {claim.better, claim.worse} <= set(names)
        assert set(claim.metrics) <= set(table.metrics)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: str(table.number))
def test_published_values_fit_the_columns_they_stand_in(table):
    assert {len(row.published) for row in table.rows} <= {0, len(table.published)}
    assert all(0 < value < 100 for row in table.rows for value in row.published)


def test_the_middle_weight_of_table_11_is_the_configs_own():
    own = TABLES[11].rows[1]
    assert not own.options
    assert own.name == f"{get_distillation_cfg('distill_nano.yaml').MODEL.DISTILL.CONTEXT.WEIGHT:g}"
