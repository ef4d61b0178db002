"""Tests of baskets read from a Parquet file, and of the edges they add to a graph."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from raylevance.errors import RaylevanceError
from raylevance.graph.baskets import BasketFile, read_baskets
from raylevance.graph.building import BehaviourGraph, GraphSettings, build_graph
from raylevance.graph.csr import Csr
from raylevance.graph.edges import NodeIds
from raylevance.graph.metapaths import PpmiSettings

ITEMS = NodeIds.assign(pa.array(["p0", "p1", "p2", "p3"]))
NO_QUERIES = pa.array([], pa.string())


def written(file: Path, rows: list[tuple[object, ...]], names: list[str]) -> Path:
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), file)
    return file


def lists(baskets: Csr) -> list[list[int]]:
    return sorted(baskets.row(row)[0].tolist() for row in range(baskets.rows))


def test_all_basket_columns_together_identify_a_basket(tmp_path: Path) -> None:
    rows = [(1, 10, "p1"), (1, 10, "p0"), (1, 10, "p0"), (1, 11, "p2"), (11, 0, "p3"), (1, 10, "unknown")]
    file = written(tmp_path / "b.parquet", rows, ["customer", "minute", "what"])
    settings = BasketFile(file=file, basket=("customer", "minute"), product="what")
    assert lists(read_baskets(settings, ITEMS, NO_QUERIES)) == [[0, 1], [2], [3]]


def test_baskets_of_held_out_queries_are_left_out(tmp_path: Path) -> None:
    file = written(tmp_path / "b.parquet", [(7, "p0"), (7, "p1"), (8, "p1"), (8, "p2")], ["query_id", "product_id"])
    settings = BasketFile(file=file, basket=("query_id",))
    assert lists(read_baskets(settings, ITEMS, pa.array(["7"]))) == [[1, 2]]
    with pytest.raises(RaylevanceError, match="no basket has two products of the catalogue"):
        read_baskets(settings, ITEMS, pa.array(["7", "8"]))


def test_the_query_of_a_basket_is_read_from_its_column(tmp_path: Path) -> None:
    """The id of an order may equal that of a held-out query, and a basket for a query may have an id of its own."""
    rows = [("a", 7, "p0"), ("a", 7, "p1"), ("b", None, "p1"), ("b", None, "p2")]
    file = written(tmp_path / "b.parquet", rows, ["session", "asked", "product_id"])
    held_out = pa.array(["7"])
    of_queries = BasketFile(file=file, basket=("session",), query="asked")
    assert lists(read_baskets(of_queries, ITEMS, held_out)) == [[1, 2]]
    orders = written(tmp_path / "orders.parquet", [(7, "p0"), (7, "p1")], ["order", "product_id"])
    assert lists(read_baskets(BasketFile(file=orders, basket=("order",)), ITEMS, held_out)) == [[0, 1]]


def test_errors_name_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match=r"none\.parquet: no such basket file"):
        BasketFile(file=tmp_path / "none.parquet").check()
    file = written(tmp_path / "b.parquet", [(7, "p0")], ["basket", "product_id"])
    with pytest.raises(RaylevanceError, match=r"b\.parquet: has no column 'basket_id'.*basket"):
        BasketFile(file=file).check()


@pytest.mark.ray
def test_baskets_add_edges_between_products_only(tmp_path: Path, ray_cluster: None) -> None:
    events = pa.table({"query_id": ["q0", "q0", "q1"], "product_id": ["p0", "p1", "p2"], "action": ["click"] * 3})
    file = written(tmp_path / "b.parquet", [(1, "p2"), (1, "p3")], ["basket_id", "product_id"])
    settings = GraphSettings(ppmi=PpmiSettings(minimum_support=1))
    settings = settings.model_copy(update={"edges": settings.edges.model_copy(update={"minimum_support": 1})})
    graphs = []
    for name, baskets in (
        ("without", None),
        ("with", lambda items: read_baskets(BasketFile(file=file), items, NO_QUERIES)),
    ):
        (tmp_path / name).mkdir()
        nodes = pa.array(["q0", "q1"]), ITEMS.strings
        build_graph(ray.data.from_arrow(events), *nodes, tmp_path / name, settings, baskets)
        graphs.append(BehaviourGraph.load(tmp_path / name))
    without, with_baskets = graphs
    assert [without.item_ppmi.row(node)[0].tolist() for node in range(4)] == [[1], [0], [], []]
    assert [with_baskets.item_ppmi.row(node)[0].tolist() for node in range(4)] == [[1], [0], [3], [2]]
    for part in ("edges", "query_ppmi", "query_item_ppmi"):
        assert np.array_equal(getattr(without, part).indices, getattr(with_baskets, part).indices)
        assert np.array_equal(getattr(without, part).weights, getattr(with_baskets, part).weights)
