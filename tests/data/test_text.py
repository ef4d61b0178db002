"""The template of product texts and the baseline text."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.data.text import ProductText, baseline_text, full_text, normalised_query, query_key

PRODUCTS = pa.table(
    {
        "title": ["Kettle ", "Mug", "Rug"],
        "brand": ["Acme", None, ""],
        "color": ["Red", "Blue", None],
        "category": [["Home", "Kitchen", "Tea", "Kettles", "Electric"], ["Home"], None],
    }
)


@pytest.mark.parametrize(
    ("levels", "kettle"),
    [
        (0, "Kettle. Brand: Acme. Color: Red"),
        (2, "Kettle. Brand: Acme. Color: Red. Category: Home > Kitchen"),
        (4, "Kettle. Brand: Acme. Color: Red. Category: Home > Kitchen > Tea > Kettles"),
    ],
)
def test_taxonomy_levels(levels: int, kettle: str) -> None:
    assert ProductText.model_validate({"taxonomy_levels": levels}).compose(PRODUCTS)[0] == kettle


def test_what_a_product_lacks_is_left_out() -> None:
    assert ProductText().compose(PRODUCTS)[1:] == ["Mug. Color: Blue. Category: Home", "Rug"]
    assert ProductText(attributes=()).compose(PRODUCTS)[:2] == [
        "Kettle. Category: Home > Kitchen",
        "Mug. Category: Home",
    ]


def test_details_come_last() -> None:
    details = pa.table({"bullets": ["Boils fast", None, ""], "description": [None, "A mug.", None]})
    products = PRODUCTS.append_column("bullets", details["bullets"]).append_column(
        "description", details["description"]
    )
    text = ProductText(details=("bullets", "description"))
    assert text.compose(products.select(text.columns)) == [
        "Kettle. Brand: Acme. Color: Red. Category: Home > Kitchen. Boils fast",
        "Mug. Color: Blue. Category: Home. A mug.",
        "Rug",
    ]


def test_a_product_without_text_keeps_its_place() -> None:
    products = PRODUCTS.set_column(0, "title", pa.chunked_array([["Kettle", "Mug", " "]]))
    assert ProductText().compose(products)[1:] == ["Mug. Color: Blue. Category: Home", ""]


def test_baseline_text() -> None:
    assert baseline_text(PRODUCTS.slice(0, 2)) == ["Kettle  Acme Red", "Mug Blue"]


def test_full_text_says_all_there_is() -> None:
    assert full_text(PRODUCTS) == ["Kettle  Acme Red Home Kitchen Tea Kettles Electric", "Mug Blue Home", "Rug "]
    described = PRODUCTS.append_column("description", pa.chunked_array([["Boils fast", None, "Soft"]]))
    assert [text.split()[-1] for text in full_text(described)] == ["fast", "Home", "Soft"]


def test_queries_that_differ_in_case_and_space_are_the_same() -> None:
    queries = pa.array(["Red  Shoes ", "red shoes", "ｒｅｄ shoes", "red shoe", None])
    assert normalised_query(queries).to_pylist() == ["red shoes"] * 3 + ["red shoe", None]
    keys = query_key(queries).to_pylist()
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert keys[4] is None


def test_queries_that_look_the_same_are_the_same() -> None:
    queries = pa.array(
        [
            "M&uuml;sli bowl",
            "mu\u0308sli\u00a0bowl",
            "M\u00dcS\u00adLI bow\u200bl\ufeff",
            "&nbsp;m&#252;sli bowl",
            "ｍüｓｌｉ BOWL",
        ]
    )
    assert set(normalised_query(queries).to_pylist()) == {"müsli bowl"}
    assert len(set(query_key(queries).to_pylist())) == 1


def test_text_that_models_read_has_no_entities_and_nothing_invisible() -> None:
    products = PRODUCTS.set_column(
        0, "title", pa.chunked_array([["Kettle &amp; M\u00adug"], ["\u200b", "8&quot; R\u200bug"]])
    )
    products = products.set_column(3, "category", pa.chunked_array([[["Home &amp; Garden", "Tea"], None, []]]))
    assert ProductText().compose(products) == [
        "Kettle & Mug. Brand: Acme. Color: Red. Category: Home & Garden > Tea",
        "Color: Blue",
        '8" Rug',
    ]
    assert baseline_text(products) == ["Kettle & Mug Acme Red", " Blue", '8" Rug ']


def test_esci_products_have_text(public_data: Path) -> None:
    products = pq.read_table(public_data / "esci" / "shopping_queries_dataset_products.parquet")
    products = products.rename_columns([name.removeprefix("product_") for name in products.column_names])
    texts = ProductText().compose(products)
    assert len(texts) == 6764
    assert texts[0] == (
        "The Book of Dragons: An Anthology. Brand: Harper Voyager. Category: Books > Literature & Fiction"
    )
