"""The demo shop: reproducible from its seed, with valid references and labels that follow from the attributes."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raylevance.data.schema import ESCI_GRADES, TABLES
from raylevance.demo import DemoSettings, generate
from raylevance.demo.candidates import MAX_CANDIDATES
from raylevance.demo.catalogue import PERIODS, Catalogue
from raylevance.demo.generating import layouts
from raylevance.demo.intents import VAGUE
from raylevance.demo.judgements import judgements
from raylevance.demo.lexicon import word_tables
from raylevance.demo.products import products
from raylevance.demo.queries import queries
from raylevance.demo.relevance import ANY
from raylevance.demo.shop import Shop, Storefront
from raylevance.demo.vocabulary import ENGLISH, LEAVES
from raylevance.demo.vocabulary.schema import ATTRIBUTES

SETTINGS = DemoSettings(products=3000, queries=300, events=150_000, users=200, judged_per_query=40)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(SETTINGS)


@pytest.fixture(scope="module")
def storefront(shop: Shop) -> Storefront:
    return shop.storefronts[0]


@pytest.mark.parametrize("table", list(TABLES))
def test_rows_do_not_depend_on_how_they_are_cut(shop: Shop, table: str) -> None:
    layout = layouts(shop)[table]
    cuts = np.unique(np.linspace(0, layout.units, 5).astype(int))
    in_one = layout.rows(shop, 0, layout.units)
    in_four = pa.concat_tables([layout.rows(shop, a, b) for a, b in itertools.pairwise(cuts)])
    assert in_one.schema == TABLES[table]
    assert in_one.combine_chunks() == in_four.combine_chunks()


@pytest.mark.parametrize("table", list(TABLES))
def test_the_seed_decides(shop: Shop, table: str) -> None:
    units = min(layouts(shop)[table].units, 100)
    make = layouts(shop)[table].rows
    other = Shop(SETTINGS.model_copy(update={"seed": 1}))
    assert make(shop, 0, units) == make(Shop(SETTINGS), 0, units)
    assert make(shop, 0, units) != make(other, 0, units)


@settings(deadline=None)  # a busy machine is no fault of the shop
@given(st.integers(len(LEAVES), 5_000_000), st.integers(0, 20))
def test_rows_and_slots_are_one_to_one(size: int, seed: int) -> None:
    catalogue = Catalogue(size, seed)
    rows = np.unique(np.linspace(0, size - 1, 50).astype(np.int64))
    slots = catalogue.slots(rows)
    assert np.array_equal(catalogue.rows(slots), rows)
    assert slots.min() >= 0 and slots.max() < size
    assert catalogue.starts[0] == 0 and catalogue.starts[-1] == size and (catalogue.sizes >= 1).all()


def test_periods_are_coprime() -> None:
    assert np.lcm.reduce(PERIODS) == PERIODS.prod()


def test_every_product_has_an_attribute_of_its_leaf(storefront: Storefront) -> None:
    slots = np.arange(SETTINGS.products)
    leaves = storefront.catalogue.leaves(slots)
    for attribute, meanings in enumerate(storefront.catalogue.attributes(slots, leaves)):
        for leaf in range(len(LEAVES)):
            assert set(meanings[leaves == leaf].tolist()) <= set(word_tables().values[leaf][attribute])


def test_judgements_follow_from_the_attributes(shop: Shop, storefront: Storefront) -> None:
    """Apply the rule again, row by row, to the words of the vocabulary."""
    rows = judgements(shop, 0, SETTINGS.queries).to_pylist()
    intent = storefront.intents.of_queries(np.arange(SETTINGS.queries))
    for row in rows:
        query, slot = (
            int(row["query_id"][1:]),
            storefront.catalogue.slots(np.array([int(row["product_id"][1:])])),
        )
        leaf = int(storefront.catalogue.leaves(slot)[0])
        have = storefront.catalogue.attributes(slot, np.array([leaf]))[:, 0]
        assert row["label"] == expected_label(int(intent.scope[query]), intent.wanted[:, query], leaf, have)
        assert row["grade"] == ESCI_GRADES[row["label"]]


def expected_label(scope: int, wanted: np.ndarray, leaf: int, have: np.ndarray) -> str:
    is_need = scope >= len(LEAVES)
    names = list(ENGLISH.needs.values())[scope - len(LEAVES)] if is_need else (LEAVES[scope].name,)
    answers = [candidate for candidate in LEAVES if candidate.name in names]
    if LEAVES[leaf] in answers:
        misses = sum(want not in (ANY, value) for want, value in zip(wanted, have, strict=True))
        return "ES"[misses] if misses < 2 else "I"
    if is_need and LEAVES[leaf].path[:2] in [answer.path[:2] for answer in answers]:
        return "S"
    return "C" if any(LEAVES[leaf].name in answer.complements for answer in answers) else "I"


def test_each_query_has_the_number_of_judgements_and_an_exact_one(shop: Shop) -> None:
    rows = judgements(shop, 0, SETTINGS.queries).to_pandas()
    assert not rows.duplicated(["query_id", "product_id"]).any()
    assert (rows.groupby("query_id").size() == SETTINGS.judged_per_query).all()
    assert rows.groupby("query_id").label.agg(lambda labels: (labels == "E").any()).all()
    shares = rows.label.value_counts(normalize=True)
    assert all(shares[label] > 0.05 for label in "ESCI")


def test_named_attributes_give_hard_negatives(storefront: Storefront) -> None:
    """Most queries that name an attribute besides the type have irrelevant candidates in their own leaf."""
    count = MAX_CANDIDATES
    intent = storefront.intents.of_queries(np.arange(SETTINGS.queries))
    slots, labels = storefront.candidates.for_intent(intent, count)
    own = storefront.catalogue.leaves(slots) == storefront.catalogue.leaves(intent.target)[:, None]
    named = (intent.wanted != ANY).sum(axis=0) >= 2
    assert ((labels == 3) & own)[named].any(axis=1).mean() > 0.9


def test_an_intent_is_in_one_split(shop: Shop, storefront: Storefront) -> None:
    rows = judgements(shop, 0, SETTINGS.queries).to_pandas()
    splits = rows.groupby("query_id").split.agg(["nunique", "first"])
    assert (splits["nunique"] == 1).all() and set(splits["first"]) == {"train", "validation", "test"}
    intent = storefront.intents.of_queries(np.arange(SETTINGS.queries))
    by_intent: dict[tuple[int, ...], set[str]] = {}
    for index, split in enumerate(splits["first"]):
        by_intent.setdefault((int(intent.scope[index]), *intent.wanted[:, index].tolist()), set()).add(split)
    assert all(len(found) == 1 for found in by_intent.values())
    assert len(by_intent) < SETTINGS.queries, "the case does not occur"


def test_all_kinds_of_queries_occur_and_few_repeat() -> None:
    shop = Shop(DemoSettings())
    intent = shop.storefronts[0].intents.of_queries(np.arange(500))
    assert np.bincount(intent.kind, minlength=5).min() >= 25
    assert 0.06 < intent.misspelt.mean() < 0.15
    assert not intent.misspelt[intent.kind == VAGUE].any()
    assert len(set(queries(shop, 0, 500)["query"].to_pylist())) > 480


def test_more_queries_keep_the_tail_long() -> None:
    texts = queries(Shop(DemoSettings(queries=20_000)), 0, 20_000)["query"].to_pylist()
    assert len(set(texts)) > 15_000


def test_query_texts_name_what_they_want(shop: Shop, storefront: Storefront) -> None:
    texts = queries(shop, 0, SETTINGS.queries)["query"].to_pylist()
    intent = storefront.intents.of_queries(np.arange(SETTINGS.queries))
    for index, text in enumerate(texts):
        if intent.misspelt[index] or intent.kind[index] == VAGUE:
            continue
        for attribute, lexicon in enumerate(word_tables().lexicons):
            if intent.wanted[attribute, index] != ANY:
                forms = lexicon.meanings[intent.wanted[attribute, index]]
                assert any(form.lower() in text for form in forms), (text, forms)


def test_titles_are_readable() -> None:
    titles = products(Shop(DemoSettings()), 0, 5000)["title"].to_pylist()
    lengths = np.array([len(title.split()) for title in titles])
    assert lengths.min() >= 3 and 5 < lengths.mean() < 15 and lengths.max() <= 32
    assert all("{" not in title and "  " not in title and title == title.strip() for title in titles)
    assert len(set(titles)) > 4800


def test_nulls_are_where_real_catalogues_have_them() -> None:
    rows = products(Shop(DemoSettings()), 0, 5000)
    for name in ("description", "bullets", "brand", "color"):
        assert 0.01 < rows[name].null_count / 5000 < 0.15
    assert rows["title"].null_count == 0


def test_settings_reject_an_impossible_shop() -> None:
    with pytest.raises(ValidationError):
        DemoSettings(products=len(LEAVES) - 1)
    with pytest.raises(ValidationError):
        DemoSettings(judged_per_query=MAX_CANDIDATES + 1)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_large_catalogues_store_nothing(attribute: str) -> None:
    """Rows of a catalogue of a billion products are computed without storing the others."""
    shop = Shop(DemoSettings(products=1_000_000_000))
    rows = products(shop, 999_999_990, 1_000_000_000)
    assert rows.num_rows == 10
    assert shop.storefronts[0].catalogue.tables[ATTRIBUTES.index(attribute)].nbytes < 100_000


@pytest.mark.ray
def test_generate_writes_the_tables(ray_cluster: None, tmp_path: Path) -> None:
    settings = DemoSettings(products=300, queries=24, events=70_000, users=50, judged_per_query=12)
    counts = generate(settings, tmp_path)
    assert counts == {"products": 300, "queries": 24, "judgements": 24 * 12, "events": 70_000}
    shop = Shop(settings)
    tables = {}
    for name, schema in TABLES.items():
        tables[name] = pq.read_table(tmp_path / name)
        assert tables[name].schema == schema
        layout = layouts(shop)[name]
        assert tables[name].combine_chunks() == layout.rows(shop, 0, layout.units).combine_chunks()
    ids = {
        name: set(tables[name][key].to_pylist()) for name, key in (("products", "product_id"), ("queries", "query_id"))
    }
    assert len(ids["products"]) == 300 and len(ids["queries"]) == 24
    for name in ("judgements", "events"):
        assert set(tables[name]["product_id"].to_pylist()) <= ids["products"]
        assert set(tables[name]["query_id"].to_pylist()) <= ids["queries"]


@pytest.mark.ray
def test_a_log_can_be_empty(ray_cluster: None, tmp_path: Path) -> None:
    counts = generate(DemoSettings(products=200, queries=5, events=0, judged_per_query=10), tmp_path)
    assert counts["events"] == 0
    assert pq.read_table(tmp_path / "events").schema == TABLES["events"]
