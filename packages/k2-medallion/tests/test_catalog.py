"""The catalog creates what is missing, changes nothing that is there, and names what is wrong."""

import gc
import weakref

import pytest
from pyiceberg.types import LongType

from k2_medallion import (
    GOLD_TRADES,
    CatalogError,
    LakeHome,
    all_tables,
    ensure_tables,
    open_catalog,
)
from k2_medallion.catalog import count_rows, load_table, set_property

SPECS = all_tables(["binance"])


@pytest.fixture
def catalog(home):
    """Open a new lake."""
    catalog = open_catalog(home, create=True)
    yield catalog
    catalog.close()


def test_tables_are_made_as_their_specs_say(catalog):
    """Names, order of columns, partition and sort are those of the spec."""
    ensure_tables(catalog, SPECS)

    for spec in SPECS:
        table = catalog.load_table(spec.identifier)
        assert spec.column_names == tuple(field.name for field in table.schema().fields)
        (partition,) = table.spec().fields
        column, transform = spec.partition
        assert (f"{column}_{transform}", transform) == (partition.name, str(partition.transform))
        assert len(spec.sort) == len(table.sort_order().fields)
        assert table.properties.items() >= spec.properties.items() - {("format-version", "2")}


def test_making_them_again_changes_nothing(catalog):
    """A second start finds the same metadata."""
    ensure_tables(catalog, SPECS)
    before = {spec.name: catalog.load_table(spec.identifier).metadata_location for spec in SPECS}

    ensure_tables(catalog, SPECS)

    after = {spec.name: catalog.load_table(spec.identifier).metadata_location for spec in SPECS}
    assert before == after


def test_a_table_without_staging_is_refused(catalog):
    """Batches would be published in plain sight: the flow must not start."""
    ensure_tables(catalog, SPECS)
    table = catalog.load_table(GOLD_TRADES.identifier)
    table.transaction().set_properties({"write.wap.enabled": "false"}).commit_transaction()

    with pytest.raises(CatalogError, match=r"gold_crypto_trades.*write\.wap\.enabled"):
        ensure_tables(catalog, SPECS)


def test_a_column_of_another_type_is_refused(catalog):
    """A flow that cannot write its table says which column, before it reads anything."""
    ensure_tables(catalog, SPECS)
    table = catalog.load_table(GOLD_TRADES.identifier)
    with table.update_schema() as update:
        update.update_column("exchange_hour", LongType())

    with pytest.raises(CatalogError, match=r"exchange_hour is long.*int"):
        ensure_tables(catalog, SPECS)


def test_an_empty_home_is_named_with_its_cure(tmp_path):
    """Reading where no lake is says how to make one, and makes nothing."""
    with pytest.raises(CatalogError, match="k2 demo"):
        open_catalog(LakeHome(tmp_path / "nothing"))

    assert not (tmp_path / "nothing").exists()


def test_a_half_made_lake_is_named(tmp_path):
    """A catalog file without its tables, as a killed lake leaves it, is no traceback."""
    (tmp_path / "catalog.db").touch()

    with pytest.raises(CatalogError, match="not complete"):
        open_catalog(LakeHome(tmp_path))


def test_a_table_without_snapshot_has_no_rows(catalog):
    """Counting works before the first batch, and before there is a table."""
    ensure_tables(catalog, SPECS)

    assert count_rows(load_table(catalog, GOLD_TRADES)) == 0
    assert count_rows(load_table(catalog, all_tables(["other"])[0])) == 0


def test_a_table_is_parsed_again_only_when_somebody_has_changed_it(catalog, home):
    """What another program commits is seen at once; what nobody changed costs one query."""
    ensure_tables(catalog, SPECS)
    before = load_table(catalog, GOLD_TRADES)
    assert load_table(catalog, GOLD_TRADES) is before

    other = open_catalog(home)
    table = other.load_table(GOLD_TRADES.identifier)
    table.transaction().set_properties({"note": "changed"}).commit_transaction()
    other.close()

    after = load_table(catalog, GOLD_TRADES)
    assert (before.properties.get("note"), after.properties["note"]) == (None, "changed")
    assert load_table(catalog, GOLD_TRADES) is after


def test_a_catalog_that_nobody_uses_is_forgotten_with_its_tables(catalog, home):
    """Who opens one for every question does not keep the metadata of each."""
    ensure_tables(catalog, SPECS)
    other = open_catalog(home)
    load_table(other, GOLD_TRADES)
    other.close()
    left = weakref.ref(other)

    del other
    gc.collect()

    assert left() is None


def test_what_was_set_is_looked_at_again(catalog):
    """PyIceberg sets over what another has set meanwhile: only a second look finds who was last."""
    ensure_tables(catalog, SPECS)
    seen = []

    def choose(known):
        seen.append(known)
        return known or "ours"

    set_property(catalog, GOLD_TRADES, "k2.test", choose)

    assert seen == [None, "ours"]
    assert catalog.load_table(GOLD_TRADES.identifier).properties["k2.test"] == "ours"
