"""Pseudo-queries are 2 to 5 words of the title, about half of them in another order, and the same in every run."""

import pyarrow as pa
import pytest
import ray.data

from raylevance.data.pseudo_queries import SCHEMA, cut_pseudo_queries, pseudo_queries
from raylevance.data.schema import PRODUCTS
from raylevance.data.text import ProductText

TITLE = "one two three four five six seven eight"
TEXT = ProductText(attributes=())


def products(count: int) -> pa.Table:
    return pa.Table.from_pylist([{"product_id": f"p{n}", "title": f"{TITLE} n{n}"} for n in range(count)], PRODUCTS)


def test_spans_of_the_title() -> None:
    cut = cut_pseudo_queries(products(1000), TEXT)
    assert cut.schema == SCHEMA
    in_order, lengths = 0, set()
    for row in cut.to_pylist():
        words, title = row["query"].split(), row["items"][0].split()
        positions = sorted(title.index(word) for word in words)
        assert positions == list(range(positions[0], positions[0] + len(words)))
        assert row["labels"] == [2]
        lengths.add(len(words))
        in_order += [title[index] for index in positions] == words
    assert lengths == {2, 3, 4, 5}
    # Half are shuffled, and a shuffle of 2, 3, 4 or 5 words keeps the order in 1/2, 1/6, 1/24 or 1/120 of cases.
    assert in_order / 1000 == pytest.approx(0.5 + 0.5 * (1 / 2 + 1 / 6 + 1 / 24 + 1 / 120) / 4, abs=0.05)


def test_a_span_depends_on_seed_and_product_alone() -> None:
    whole = cut_pseudo_queries(products(20), TEXT, per_product=2, seed=1).to_pylist()
    assert whole[20:] == cut_pseudo_queries(products(20).slice(10), TEXT, per_product=2, seed=1).to_pylist()
    assert whole != cut_pseudo_queries(products(20), TEXT, per_product=2, seed=2).to_pylist()


def test_a_title_of_one_word_has_none() -> None:
    table = pa.Table.from_pylist([{"product_id": "p", "title": "Mug"}], PRODUCTS)
    assert cut_pseudo_queries(table, TEXT).num_rows == 0


@pytest.mark.parametrize(
    ("title", "pieces"),
    [
        ("ステンレス製ケトル笛吹き2.5L", {"ステンレス", "製", "ケトル", "笛吹き", "2.5l"}),
        ("不锈钢水壶大容量", {"不锈", "钢水", "壶大", "容量"}),
        ("लाल साड़ी", {"लाल", "साड़ी"}),
        ("Cre\u0300me bru\u0302le\u0301e", {"cr\u00e8me", "br\u00fbl\u00e9e"}),
    ],
)
def test_words_of_other_scripts(title: str, pieces: set[str]) -> None:
    """Titles without spaces, with marks that are not letters, and with separate combining accents."""
    table = pa.Table.from_pylist([{"product_id": "p", "title": title}], PRODUCTS)
    asked = cut_pseudo_queries(table, TEXT, per_product=50)["query"].to_pylist()
    assert {word for query in asked for word in query.split()} == pieces


def test_a_title_of_one_word_can_be_asked_for_by_its_category() -> None:
    table = pa.Table.from_pylist([{"product_id": "p", "title": "Mug", "category": ["Home", "Mugs"]}], PRODUCTS)
    assert cut_pseudo_queries(table, TEXT, category_share=1.0)["query"].to_pylist() == ["mugs"]


def test_a_share_of_them_are_names_of_categories() -> None:
    """A product without a category keeps its span, and spans that are not replaced stay the same."""
    paths = [["Home", "Kettles"], [], None, ["Home", "Kettles"]] * 250
    table = products(1000).set_column(6, PRODUCTS.field("category"), pa.array(paths, PRODUCTS.field("category").type))
    plain, mixed = (cut_pseudo_queries(table, TEXT, category_share=share)["query"].to_pylist() for share in (0.0, 0.3))
    named = [row for row, query in enumerate(mixed) if query == "kettles"]
    assert all(row % 4 in (0, 3) for row in named)
    assert len(named) / 500 == pytest.approx(0.3, abs=0.06)
    assert all(query == plain[row] for row, query in enumerate(mixed) if row not in set(named))


@pytest.mark.ray
def test_blocks_give_the_pseudo_queries_of_the_whole(ray_cluster: None) -> None:
    sharded = pseudo_queries(ray.data.from_arrow([products(10), products(30).slice(10)]), TEXT)
    rows = [row for batch in sharded.iter_batches(batch_size=None, batch_format="pyarrow") for row in batch.to_pylist()]
    order = lambda row: (row["items"], row["query"])  # noqa: E731
    assert sorted(rows, key=order) == sorted(cut_pseudo_queries(products(30), TEXT).to_pylist(), key=order)
