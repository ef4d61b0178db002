"""Write the training instances of Mine and Refine from the tables of a recipe."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from raylevance.data.graded_instances import InstanceSettings, write_instances
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.pseudo_queries import POSITIVE, SCHEMA, pseudo_queries
from raylevance.data.spelling import SpellingSettings
from raylevance.data.text import ProductText
from raylevance.graph.building import BehaviourGraph


def write_pseudo_queries(
    products: Path, output: Path, text: ProductText, *, per_product: int, category_share: float, seed: int
) -> None:
    """Write pseudo-queries of the table `products` to the folder `output`, replacing what a killed run left there."""
    shutil.rmtree(output, ignore_errors=True)
    rows = ray.data.read_parquet(str(products))
    pseudo_queries(rows, text, per_product, seed, category_share).write_parquet(str(output))


def write_clicked_pairs(graph: Path, tables: Path, output: Path, text: ProductText, count: int) -> None:
    """Add queries of the behaviour graph with the products chosen for them to the instances in the folder `output`.

    The product of the highest PPMI of every query comes first, then the second of every query, and so on, up to `count`
    pairs in all.
    """
    edges = BehaviourGraph.load(graph).query_item_ppmi
    queries = np.repeat(np.arange(len(edges.indptr) - 1), np.diff(edges.indptr))
    strongest = np.lexsort((-edges.weights, queries))
    rank = np.arange(len(queries)) - edges.indptr[queries]
    chosen = np.lexsort((queries, rank))[:count]
    query_texts = pq.read_table(tables / "queries", columns=["query"])["query"].take(pa.array(queries[chosen]))
    products = pq.read_table(tables / "products", columns=text.columns)
    items = text.compose_column(products.take(pa.array(edges.indices[strongest[chosen]]))).to_pylist()
    instances = {"query": query_texts, "items": [[item] for item in items], "labels": [[POSITIVE]] * len(items)}
    pq.write_table(pa.table(instances, schema=SCHEMA), output / "clicked.parquet")


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
    with_judgement = pc.is_in(judged.products["product_id"], pc.unique(judged.judgements["product_id"]))
    tables = judged.judgements, judged.queries, judged.products.filter(with_judgement)
    judgements, queries, products = map(ray.data.from_arrow, tables)
    write_instances(judgements, queries, products, output, text, settings, spelling, seed)
