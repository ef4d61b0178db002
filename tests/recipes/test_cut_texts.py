"""Tests of the item texts that are longer than an encoder reads."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.data.text import ProductText
from raylevance.models.encoder import Encoder, EncoderSettings
from workloads.recipes.mine_and_refine import MineAndRefineSettings
from workloads.steps.cut_texts import share_of_cut_texts
from workloads.steps.encoder_training import new_encoder


def write_products(folder: Path, products: pa.Table) -> Path:
    folder.mkdir()
    pq.write_table(products, folder / "part.parquet", row_group_size=3000)
    return folder


def test_texts_that_lose_their_ends_are_counted_and_named(
    tmp_path: Path, tiny_backbone: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder, text = tmp_path / "encoder", ProductText(attributes=(), taxonomy_levels=0)
    Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone), max_item_tokens=20)).save(encoder)
    titles = pa.table({"title": ["a", "a " * 40, "b", "a " * 30]})
    assert share_of_cut_texts(encoder, write_products(tmp_path / "products", titles), text) == 0.5
    assert "2 of 4 item texts are longer than encoder.max_item_tokens=20 and lose their ends" in capfd.readouterr().err


def test_by_default_nine_esci_products_in_ten_keep_their_category(public_data: Path, tmp_path: Path) -> None:
    """The category comes last in the text, so it is what a text that is too long loses."""
    settings = MineAndRefineSettings()
    products = pq.read_table(public_data / "esci" / "shopping_queries_dataset_products.parquet")
    products = products.rename_columns([name.removeprefix("product_") for name in products.column_names])
    encoder = new_encoder(settings.encoder, tmp_path / "encoder")
    folder = write_products(tmp_path / "products", products)
    whole = share_of_cut_texts(encoder, folder, settings.text)
    without_category = share_of_cut_texts(encoder, folder, settings.text.model_copy(update={"taxonomy_levels": 0}))
    assert without_category < 0.1 and whole < 0.2
