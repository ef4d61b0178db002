"""Write the training instances of Mine and Refine from the tables of a recipe."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from raylevance.data.graded_instances import InstanceSettings, write_instances
from raylevance.data.judged_tables import TRAIN, JudgedTables
from raylevance.data.parquet_parts import PartFiles, write_parts
from raylevance.data.pseudo_queries import POSITIVE, SCHEMA, pseudo_queries
from raylevance.data.spelling import SpellingSettings
from raylevance.data.text import ProductText, normalised_query
from raylevance.errors import RaylevanceError
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.metapaths import rank_in_row
from raylevance.progress import status
from workloads.steps.graph_texts import node_rows


def write_pseudo_queries(
    products: Path, output: Path, text: ProductText, *, per_product: int, category_share: float, seed: int
) -> None:
    """Write pseudo-queries of the table `products` to the folder `output`, replacing what a killed run left there.

    The rows, their order and the names of the files depend on the arguments alone.
    """
    shutil.rmtree(output, ignore_errors=True)
    rows = pseudo_queries(ray.data.read_parquet(str(products)), text, per_product, seed, category_share)
    if not write_parts(rows, PartFiles(output, SCHEMA)).rows:
        raise RaylevanceError(f"{products}: no title has two words, so a warm-up has nothing to learn from")


def write_clicked_pairs(graph: Path, tables: Path, output: Path, text: ProductText, count: int) -> None:
    """Add queries of the behaviour graph with the products chosen for them to the instances in the folder `output`.

    The product of the highest PPMI of every query comes first, then the second of every query, and so on, up to `count`
    pairs in all. Of products with equal PPMI, the one with the highest click weight comes first.
    """
    loaded = BehaviourGraph.load(graph)
    edges = loaded.query_item_ppmi
    rows = edges.edge_rows()
    rank = rank_in_row(rows, edges.indices, edges.weights, _click_weights(loaded))
    chosen = np.lexsort((rows, rank))[:count]
    queries = pq.read_table(tables / "queries", columns=["query_id", "query"])
    products = pq.read_table(tables / "products", columns=["product_id", *text.columns])
    query_rows = node_rows(loaded.queries.take(pa.array(rows[chosen])), queries["query_id"])
    product_rows = node_rows(loaded.items.take(pa.array(edges.indices[chosen])), products["product_id"])
    items = text.compose_column(products.take(pa.array(product_rows))).to_pylist()
    instances = {
        "query": queries["query"].take(pa.array(query_rows)),
        "items": [[item] for item in items],
        "labels": [[POSITIVE]] * len(items),
    }
    pq.write_table(pa.table(instances, schema=SCHEMA), output / "clicked.parquet")


def write_synthetic_pairs(synthetic: Path, tables: Path, output: Path, text: ProductText) -> dict[str, int]:
    """Add the queries of the tables `synthetic` with their relevant products to the instances in the folder `output`.

    Returns the number of these pairs under "pairs", and how many were left out by the reason: a query has the text of
    one of `tables`, which may be tested on, or its product is not in `tables`. Raises `RaylevanceError` if no pair is
    left, or if a judgement is of a query that `synthetic` does not have.
    """
    judgements = pq.read_table(synthetic / "judgements", columns=["query_id", "product_id", "grade", "split"])
    relevant = pc.and_(pc.equal(judgements["grade"], POSITIVE), pc.equal(judgements["split"], TRAIN))
    pairs = judgements.filter(relevant).group_by(["query_id", "product_id"], use_threads=False).aggregate([])
    written = pq.read_table(synthetic / "queries", columns=["query_id", "query"])
    query_place = pc.index_in(pairs["query_id"], written["query_id"].combine_chunks())
    if query_place.null_count:
        unknown = pairs["query_id"].filter(query_place.is_null())[0]
        raise RaylevanceError(f"{synthetic}: a judgement is of query {unknown}, which is not among the queries")
    queries = written["query"].take(query_place)
    people = normalised_query(pq.read_table(tables / "queries", columns=["query"])["query"]).combine_chunks()
    products = pq.read_table(tables / "products", columns=list(dict.fromkeys(["product_id", *text.columns])))
    place = pc.index_in(pairs["product_id"], products["product_id"].combine_chunks())
    typed = pc.is_in(normalised_query(queries), people)
    usable = pc.and_(place.is_valid(), pc.invert(typed))
    items = text.compose_column(products.take(place.filter(usable))).to_pylist()
    if not items:
        raise RaylevanceError(f"{synthetic}: no query with a relevant product of {tables}; made from other tables?")
    instances = {
        "query": queries.filter(usable),
        "items": [[item] for item in items],
        "labels": [[POSITIVE]] * len(items),
    }
    pq.write_table(pa.table(instances, schema=SCHEMA), output / "synthetic.parquet")
    of_people = pc.sum(typed).as_py()
    left_out = {"of a query of the tables": of_people, "of another product": len(place) - len(items) - of_people}
    return {"pairs": len(items), **left_out}


def _click_weights(graph: BehaviourGraph) -> npt.NDArray[np.float32]:
    """Return the click weight of each edge of `graph.query_item_ppmi`, which are among `graph.edges`."""
    every, kept = (
        edges.edge_rows().astype(np.int64) * edges.columns + edges.indices
        for edges in (graph.edges, graph.query_item_ppmi)
    )
    return graph.edges.weights[np.isin(every, kept)]


def write_judged_instances(
    judged: JudgedTables,
    output: Path,
    text: ProductText,
    settings: InstanceSettings,
    spelling: SpellingSettings,
    seed: int,
) -> None:
    """Write instances of the judged queries to the folder `output`, replacing what a killed run left there."""
    shutil.rmtree(output, ignore_errors=True)
    tables = judged.judgements, judged.queries, judged.products
    written = write_instances(*tables, output, text, settings, spelling, seed)
    if written.unknown:
        status(f"{written.unknown} judgements are of queries or products that the tables lack; they are left out")
    if written.one_grade:
        status(f"{written.one_grade} queries are left out: all their products have one grade")
