"""The command as a function, and ESCI files small enough to make wrong by hand."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PRODUCTS = pa.table(
    {
        "product_id": ["a", "b", "c"],
        "product_title": ["red kettle", "blue lamp", "garden hose"],
        "product_description": ["for water", None, None],
        "product_bullet_point": [None, None, "20 m"],
        "product_brand": ["Kestrel", None, "Brigg"],
        "product_color": ["red", "blue", None],
        "product_locale": ["us", "us", "us"],
    }
)
EXAMPLES = pa.table(
    {
        "query_id": [1, 1, 2, 2],
        "query": ["kettle", "kettle", "lamp", "lamp"],
        "product_id": ["a", "b", "b", "c"],
        "product_locale": ["us"] * 4,
        "esci_label": ["E", "I", "E", "C"],
        "split": ["train", "train", "test", "test"],
    }
)


class Ended(NamedTuple):
    """How a command ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def raylevance(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command, in this process."""
    from workloads.cli import main

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["raylevance", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capfd.readouterr())

    return call


@pytest.fixture
def esci(tmp_path: Path) -> Path:
    """A folder of ESCI files: two queries, three products."""
    folder = tmp_path / "esci"
    folder.mkdir()
    pq.write_table(PRODUCTS, folder / "shopping_queries_dataset_products.parquet")
    pq.write_table(EXAMPLES, folder / "shopping_queries_dataset_examples.parquet")
    return folder
