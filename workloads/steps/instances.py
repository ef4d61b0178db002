"""Instances for the trainings of Mine and Refine, from the tables of a recipe."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from raylevance.data.instances import InstanceSettings, write_instances
from raylevance.data.judged import Judged
from raylevance.data.pseudo_queries import POSITIVE, SCHEMA, pseudo_queries
from raylevance.data.spelling import SpellingSettings
from raylevance.data.text import ProductText
from raylevance.graph.building import BehaviourGraph


def write_pseudo_queries(
    products: Path, output: Path, text: ProductText, per_product: int, seed: int, category_share: float
) -> None:
    """Warm-up instances of the table `products`, written anew: a killed run may have left half of them."""
    shutil.rmtree(output, ignore_errors=True)
    rows = ray.data.read_parquet(str(products))
    pseudo_queries(rows, text, per_product, seed, category_share).write_parquet(str(output))


def write_clicked_pairs(graph: Path, tables: Path, output: Path, text: ProductText, most: int) -> None:
    """Add warm-up instances to the folder `output`: queries of the behaviour graph with products chosen for them.

    At most `most`: the product of the highest PPMI of every query first, then the second, and so on.
    """
    edges = BehaviourGraph.load(graph).query_item_ppmi
    queries = np.repeat(np.arange(len(edges.indptr) - 1), np.diff(edges.indptr))
    strongest = np.lexsort((-edges.weights, queries))
    place = np.arange(len(queries)) - edges.indptr[queries]
    chosen = np.lexsort((queries, place))[:most]
    asked = pq.read_table(tables / "queries", columns=["query"])["query"].take(pa.array(queries[chosen]))
    products = pq.read_table(tables / "products", columns=text.columns)
    items = text.column(products.take(pa.array(edges.indices[strongest[chosen]]))).to_pylist()
    instances = {"query": asked, "items": [[item] for item in items], "labels": [[POSITIVE]] * len(items)}
    pq.write_table(pa.table(instances, schema=SCHEMA), output / "clicked.parquet")


def write_judged_instances(
    judged: Judged,
    output: Path,
    text: ProductText,
    settings: InstanceSettings,
    spelling: SpellingSettings,
    seed: int,
) -> None:
    """Instances of the judged queries, written anew."""
    shutil.rmtree(output, ignore_errors=True)
    known = pc.is_in(judged.products["product_id"], pc.unique(judged.judgements["product_id"]))
    tables = judged.judgements, judged.queries, judged.products.filter(known)
    judgements, queries, products = map(ray.data.from_arrow, tables)
    write_instances(judgements, queries, products, output, text, settings, spelling, seed)
