"""Nodes of a graph and rows of a table are numbered differently: nothing may depend on the order of the tables."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from raylevance.data.judged_tables import JudgedTables
from raylevance.data.schema import EVENTS, JUDGEMENTS, PRODUCTS, QUERIES
from raylevance.data.text import ProductText
from raylevance.graph.building import GraphSettings, build_graph
from raylevance.graph.edges import EdgeWeights
from raylevance.index.vectors import IndexSettings, VectorIndex
from workloads.steps.contrastive_instances import write_clicked_pairs
from workloads.steps.graph_texts import GraphTexts
from workloads.steps.indexing import pair_scores

pytestmark = pytest.mark.ray
COUNT, TEXT = 40, ProductText(taxonomy_levels=0)
EVERY_CHOICE = GraphSettings(edges=EdgeWeights(minimum_support=1))


def name(number: int) -> str:
    """An id whose order as a string is not that of the numbers."""
    return f"{number * 7919 % 1009}-{number}"


def table(schema: pa.Schema, order: np.ndarray, **columns: list[object]) -> pa.Table:
    rows = pa.table(
        {
            field.name: pa.array(columns[field.name], field.type)
            if field.name in columns
            else pa.nulls(len(order), field.type)
            for field in schema
        }
    )
    return rows.take(pa.array(order))


def write_tables(folder: Path, seed: int) -> Path:
    """Write tables in which query i and product i have the word i, in an order by the seed. Shoppers click the same."""
    random, numbers = np.random.default_rng(seed), range(COUNT)
    queries = table(
        QUERIES,
        random.permutation(COUNT),
        query_id=[f"q{name(n)}" for n in numbers],
        query=[f"find word{n}" for n in numbers],
    )
    products = table(
        PRODUCTS,
        random.permutation(COUNT),
        product_id=[f"p{name(n)}" for n in numbers],
        title=[f"a thing word{n}" for n in numbers],
        category=[["Home"]] * COUNT,
    )
    pairs = [(n, n, n % 3 or 3) for n in numbers] + [(n, (n + 1) % COUNT, 1) for n in range(0, COUNT, 2)]
    clicks = [(query, product) for query, product, count in pairs for _ in range(count)]
    events = table(
        EVENTS,
        random.permutation(len(clicks)),
        query_id=[f"q{name(query)}" for query, _ in clicks],
        product_id=[f"p{name(product)}" for _, product in clicks],
        action=["click"] * len(clicks),
    )
    for part, rows in (("queries", queries), ("products", products), ("events", events)):
        (folder / part).mkdir(parents=True)
        pq.write_table(rows.slice(0, 15), folder / part / "part-000000.parquet")
        pq.write_table(rows.slice(15), folder / part / "part-000001.parquet")
    return folder


@pytest.fixture(scope="module", params=[0, 1])
def tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables"), request.param)


@pytest.fixture(scope="module")
def graph(tables: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    ids = (pq.read_table(tables / part)[f"{key}_id"] for part, key in (("queries", "query"), ("products", "product")))
    build_graph(ray.data.read_parquet(str(tables / "events")), *ids, folder, EVERY_CHOICE)
    return folder


def words(text: str) -> int:
    return int(text.rpartition("word")[2])


def test_clicked_pairs_are_those_of_the_log(tables: Path, graph: Path, tmp_path: Path) -> None:
    """Each query's product of the highest PPMI comes first; the product of its own word has that or more clicks."""
    write_clicked_pairs(graph, tables, tmp_path, TEXT, count=10_000)
    rows = pq.read_table(tmp_path / "clicked.parquet").to_pylist()
    found = [(words(row["query"]), words(row["items"][0])) for row in rows]
    assert sorted(found) == sorted([(n, n) for n in range(COUNT)] + [(n, (n + 1) % COUNT) for n in range(0, COUNT, 2)])
    write_clicked_pairs(graph, tables, tmp_path, TEXT, count=COUNT)
    first = pq.read_table(tmp_path / "clicked.parquet")["query"].to_pylist()
    assert sorted(map(words, first)) == list(range(COUNT))


def test_texts_of_nodes_are_those_of_their_ids(tables: Path, graph: Path) -> None:
    texts = GraphTexts.read(tables, graph, TEXT)
    rows, columns = texts.graph.edges.edge_rows(), texts.graph.edges.indices
    found = {
        (words(texts.queries[int(q)].as_py()), words(texts.items[int(p)].as_py()))
        for q, p in zip(rows, columns, strict=True)
    }
    assert found == {(n, n) for n in range(COUNT)} | {(n, (n + 1) % COUNT) for n in range(0, COUNT, 2)}
    known = {f"p{name(n)}": n for n in range(COUNT)}
    neighbours = texts.neighbour_queries(1).to_pylist()
    assert all(words(row["product_text"]) == known[row["product_id"]] for row in neighbours)
    assert {known[row["product_id"]]: [words(query) for query in row["queries"]] for row in neighbours}.keys() == set(
        range(COUNT)
    )


def test_scores_of_judged_pairs_are_those_of_their_vectors(tables: Path) -> None:
    random = np.random.default_rng(0)
    queries, products = (pq.read_table(tables / part) for part in ("queries", "products"))
    vectors = [random.normal(size=(COUNT, 4)).astype(np.float32) for _ in range(2)]
    vectors = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in vectors]
    pairs = [(int(q), int(p)) for q, p in random.integers(0, COUNT, (100, 2))]
    judged = table(
        JUDGEMENTS,
        np.arange(len(pairs)),
        query_id=[queries["query_id"][query].as_py() for query, _ in pairs],
        product_id=[products["product_id"][product].as_py() for _, product in pairs],
        grade=[0] * len(pairs),
    )
    index = VectorIndex.build(vectors[1], IndexSettings(kind="exact"))
    found = pair_scores(JudgedTables(products, queries, judged), vectors[0], index)
    assert found == pytest.approx([float(vectors[0][q] @ vectors[1][p]) for q, p in pairs], abs=1e-6)
