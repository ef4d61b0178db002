"""The demo shop in three languages: the words of each, no rows across locales, and an unchanged English shop."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import ValidationError

from raylevance.data.schema import ESCI_GRADES, TABLES
from raylevance.data.spelling import misspell
from raylevance.data.splits import check_leakage, queries_of_split
from raylevance.demo import DemoSettings, judgements
from raylevance.demo.generating import layouts
from raylevance.demo.judgements import grade_catalogue, grade_pairs
from raylevance.demo.lexicon import word_tables
from raylevance.demo.relevance import LABELS
from raylevance.demo.shop import Shop
from raylevance.demo.vocabulary import LEAVES, Locale, language

SETTINGS = DemoSettings(products=3000, queries=300, events=20_000, users=200, locales=("us", "es", "jp"))
SPANISH = set("abcdefghijklmnopqrstuvwxyzáéíóúüñ")
JAPANESE = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC")
ENGLISH_TABLES = {
    "products": "59e5acaa8058fd43",
    "queries": "c47ac1407061a09a",
    "judgements": "0c9a08012c1f2c02",
    "events": "d7e7986b889b54dd",
}


def tables_of(settings: DemoSettings) -> dict[str, pa.Table]:
    shop = Shop(settings)
    return {name: layout.rows(shop, 0, layout.units) for name, layout in layouts(shop).items()}


def digest(table: pa.Table) -> str:
    return hashlib.sha256(json.dumps(table.to_pylist(), default=str).encode()).hexdigest()[:16]


def letters(text: str) -> set[str]:
    return set(filter(str.isalpha, text.lower()))


def in_japanese(character: str) -> bool:
    return unicodedata.name(character, "").startswith(JAPANESE)


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return tables_of(SETTINGS)


def of_locale(table: pa.Table, locale: str) -> pa.Table:
    return table.filter(pc.equal(table["locale"], locale))


def test_the_english_shop_is_unchanged() -> None:
    made = tables_of(DemoSettings(products=300, queries=24, events=500, judged_per_query=12, seed=3))
    assert made["products"]["price"].null_count == 300, "the shop has no prices"
    made["products"] = made["products"].drop_columns(["price"])
    assert {name: digest(table) for name, table in made.items()} == ENGLISH_TABLES


def test_locales_alternate(tables: dict[str, pa.Table]) -> None:
    for name in ("products", "queries"):
        assert tables[name].schema == TABLES[name]
        assert tables[name]["locale"].to_pylist() == ["us", "es", "jp"] * (tables[name].num_rows // 3)
        numbers = [int(key[1:]) for key in tables[name].column(0).to_pylist()]
        assert numbers == list(range(len(numbers)))


def test_the_english_part_is_the_english_shop_of_its_size(tables: dict[str, pa.Table]) -> None:
    alone = tables_of(DemoSettings(products=1000, queries=100, events=1, users=200))
    for name in ("products", "queries"):
        kept = [column for column in tables[name].column_names if not column.endswith("_id")]
        part = of_locale(tables[name], "us").select(kept)
        assert part.combine_chunks() == alone[name].select(kept).combine_chunks()


@pytest.mark.parametrize("table", ["judgements", "events"])
def test_nothing_crosses_locales(tables: dict[str, pa.Table], table: str) -> None:
    query, product = (
        dict(zip(*(tables[name][column].to_pylist() for column in (key, "locale")), strict=True))
        for name, key in (("queries", "query_id"), ("products", "product_id"))
    )
    rows = tables[table].select(["query_id", "product_id"]).to_pylist()
    assert all(query[row["query_id"]] == product[row["product_id"]] for row in rows)
    assert len({query[row["query_id"]] for row in rows}) == 3


def test_the_rule_grades_any_pair_as_the_table_does(tables: dict[str, pa.Table]) -> None:
    judged = tables["judgements"].take(np.random.default_rng(0).permutation(tables["judgements"].num_rows)[:3000])
    labels = grade_pairs(Shop(SETTINGS), judged["query_id"], judged["product_id"])
    assert pa.array(LABELS).take(pa.array(labels)).to_pylist() == judged["label"].to_pylist()


def test_the_rule_calls_products_of_another_locale_irrelevant(tables: dict[str, pa.Table]) -> None:
    judged = tables["judgements"].filter(pc.equal(tables["judgements"]["label"], "E"))
    queries, products = (judged[name].combine_chunks() for name in ("query_id", "product_id"))
    others = pa.array(np.roll(products.to_numpy(zero_copy_only=False), 40 * 100))
    locale = {name: number % 3 for number, name in enumerate(tables["products"]["product_id"].to_pylist())}
    across = np.array([locale[a] != locale[b] for a, b in zip(products.to_pylist(), others.to_pylist(), strict=True)])
    labels = grade_pairs(Shop(SETTINGS), queries, others)
    assert across.any() and {LABELS[label] for label in labels[across]} == {"I"}


def test_the_catalogue_is_graded_as_its_pairs_are(tables: dict[str, pa.Table], monkeypatch: pytest.MonkeyPatch) -> None:
    queries = tables["queries"]["query_id"].combine_chunks().take(pa.array([7, 3, 250, 4, 8, 3]))
    products = tables["products"]["product_id"].combine_chunks()
    pairs = [(query, product) for query in queries.to_pylist() for product in products.to_pylist()]
    labels = grade_pairs(Shop(SETTINGS), *map(pa.array, zip(*pairs, strict=True)))
    expected = [(*pair, LABELS[label]) for pair, label in zip(pairs, labels, strict=True) if LABELS[label] != "I"]
    for at_once in (1, 2_000_000):
        monkeypatch.setattr(judgements, "GRADED_AT_ONCE", at_once)
        graded = grade_catalogue(Shop(SETTINGS), queries)
        rows = [(row["query_id"], row["product_id"], row["label"]) for row in graded.to_pylist()]
        assert [row[0] for row in rows] == [row[0] for row in expected], "in the order of the queries"
        assert sorted(rows) == sorted(expected)
        assert graded["grade"].to_pylist() == [ESCI_GRADES[label] for label in graded["label"].to_pylist()]


def test_a_user_asks_in_one_locale(tables: dict[str, pa.Table]) -> None:
    locale = dict(zip(*(tables["queries"][name].to_pylist() for name in ("query_id", "locale")), strict=True))
    rows = tables["events"].select(["user_id", "query_id"]).to_pylist()
    asked = {(row["user_id"], locale[row["query_id"]]) for row in rows}
    assert len({user for user, _ in asked}) == len(asked) > 50


@pytest.mark.parametrize("table", list(TABLES))
def test_rows_do_not_depend_on_how_they_are_cut(tables: dict[str, pa.Table], table: str) -> None:
    shop = Shop(SETTINGS)
    layout = layouts(shop)[table]
    cuts = sorted({0, 1, 2, layout.units // 2, layout.units} & set(range(layout.units + 1)))
    parts = [layout.rows(shop, start, stop) for start, stop in pairwise(cuts)]
    assert pa.concat_tables(parts).combine_chunks() == tables[table].combine_chunks()


def test_the_scripts_of_the_languages(tables: dict[str, pa.Table]) -> None:
    for name, column in (("queries", "query"), ("products", "title")):
        spanish = of_locale(tables[name], "es")[column].to_pylist()
        japanese = of_locale(tables[name], "jp")[column].to_pylist()
        assert set().union(*map(letters, spanish)) <= SPANISH
        assert all(letter.isascii() or in_japanese(letter) for text in japanese for letter in letters(text))
        assert np.mean([any(map(in_japanese, text)) for text in japanese]) > 0.95
        assert np.mean([not text.isascii() for text in spanish]) > 0.2
        assert all(text == unicodedata.normalize("NFC", text) for text in spanish + japanese)


def test_japanese_has_spaces_only_in_names(tables: dict[str, pa.Table]) -> None:
    for text in of_locale(tables["queries"], "jp")["query"].to_pylist():
        assert all(gap[0].isascii() and gap[-1].isascii() for gap in re.findall(r"\S\s\S", text)), text


@pytest.mark.parametrize("locale", ["es", "jp"])
def test_a_misspelling_stays_in_its_language(tables: dict[str, pa.Table], locale: str) -> None:
    """Words keep their first letter, Spanish letters keep their accents, and all Japanese characters are kept."""
    changed = 0
    for text in of_locale(tables["queries"], locale)["query"].to_pylist():
        for seed in range(20):
            slipped = misspell(text, np.random.default_rng(seed))
            changed += slipped != text
            assert slipped == unicodedata.normalize("NFC", slipped)
            assert [word[0] for word in slipped.split()] == [word[0] for word in text.split()]
            if locale == "es":
                assert letters(slipped) <= SPANISH
            else:
                assert set(filter(in_japanese, slipped)) == set(filter(in_japanese, text))
                assert all(letter.isascii() or in_japanese(letter) for letter in letters(slipped))
    assert changed > 1000


def test_a_query_is_in_one_split_in_all_languages(tables: dict[str, pa.Table]) -> None:
    """This holds for words that two languages share too, such as smartphone."""
    sides = [queries_of_split(tables["judgements"], tables["queries"], split) for split in ("train", "test")]
    check_leakage(*sides)
    assert all(len(set(side["locale"].to_pylist())) == 3 for side in sides)


@pytest.mark.parametrize("locale", ["es", "jp"])
def test_every_leaf_is_translated(locale: Locale) -> None:
    """Leaf names are unique, no form has two meanings in a leaf, and no type is in two leaves."""
    spoken = language(locale)
    assert len({leaf.path for leaf in spoken.leaves}) == len({leaf.name for leaf in spoken.leaves}) == len(LEAVES)
    for leaf, english in zip(spoken.leaves, LEAVES, strict=True):
        assert leaf.name != english.name
        words = (leaf.types, spoken.palettes[leaf.colours], leaf.materials, leaf.styles, leaf.sizes)
        forms = Counter(form for meanings in words for meaning in meanings for form in meaning)
        assert [form for form, count in forms.items() if count > 1] == [], leaf.name
    types = Counter(form for leaf in spoken.leaves for meaning in leaf.types for form in meaning)
    assert [form for form, count in types.items() if count > 1] == []


@pytest.mark.parametrize("locale", ["es", "jp"])
def test_meanings_have_the_same_numbers_in_every_language(locale: Locale) -> None:
    english, other = word_tables("us"), word_tables(locale)
    assert english.values == other.values
    assert [len(a.meanings) for a in english.lexicons] == [len(b.meanings) for b in other.lexicons]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"locales": ()}, "at least 1 item"),
        ({"locales": ("us", "us")}, "locales: expected each locale once"),
        ({"locales": ("us", "fr")}, "Input should be 'us', 'es' or 'jp'"),
        ({"locales": ("us", "es"), "products": len(LEAVES)}, "2 locales need at least 224 products and 2 queries"),
    ],
)
def test_settings_reject_an_impossible_shop(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DemoSettings.model_validate(settings)
