"""What is known about training queries besides their text: titles of their products, and what a model wrote.

Source: SSUF (arXiv 2506.21049), knowledge-enhanced module: posterior knowledge and world knowledge.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.actions import ACTION_WEIGHTS
from raylevance.data.collecting import collect
from raylevance.data.id_rows import rows_of_ids
from raylevance.data.text import normalised_query

Texts = Mapping[str, list[str]]
"""Texts by normalised query, the best first."""


EDGES = pa.schema({"query_id": pa.string(), "product_id": pa.string(), "weight": pa.float64()})
"""Schema of how much the actions on a product for a query weigh."""


def clicked_products(events: ray.data.Dataset) -> pa.Table:
    """Return the products that were clicked, carted or bought for each query, in `EDGES`, from a log of events.

    Events without a query and exposures are left out. Memory is bounded by the distinct pairs of query and product in
    each block.
    """
    columns = events.select_columns(["query_id", "product_id", "action"])
    counted = columns.map_batches(_weigh_block, batch_format="pyarrow", batch_size=None)
    return _summed(collect(counted, EDGES))


def _weigh_block(events: pa.Table) -> pa.Table:
    place = pc.index_in(events["action"], pa.array(list(ACTION_WEIGHTS)))
    weight = pc.take(pa.array(list(ACTION_WEIGHTS.values()), pa.float64()), place)
    edges = pa.table([events["query_id"], events["product_id"], weight], EDGES.names)
    return _summed(edges.filter(pc.and_(pc.is_valid(edges["query_id"]), pc.greater(edges["weight"], 0))))


def _summed(edges: pa.Table) -> pa.Table:
    summed = edges.group_by(["query_id", "product_id"]).aggregate([("weight", "sum")])
    return summed.rename_columns(EDGES.names).cast(EDGES)


def posterior_knowledge(
    queries: pa.Array | pa.ChunkedArray,
    product_ids: pa.Array | pa.ChunkedArray,
    weights: npt.NDArray[np.floating],
    products: pa.Table,
    most: int,
) -> dict[str, list[str]]:
    """Return the titles of the `most` heaviest products of each query.

    `queries`, `product_ids` and `weights` [n] are the query-product edges of a behaviour graph or of judgements; edges
    of one pair are added up. Of equal weights the smaller product id comes first.

    Raises `RaylevanceError` for a product that is not among `products`.
    """
    edges = pa.table({"query": normalised_query(queries), "product_id": product_ids, "weight": pa.array(weights)})
    summed = edges.group_by(["query", "product_id"]).aggregate([("weight", "sum")])
    order = [("query", "ascending"), ("weight_sum", "descending"), ("product_id", "ascending")]
    ranked = summed.sort_by(order)
    rows = rows_of_ids(ranked["product_id"], products["product_id"], "product {} of a query is not among the products")
    titles = products["title"].take(pa.array(rows)).to_pylist()
    texts: dict[str, list[str]] = {}
    for query, title in zip(ranked["query"].to_pylist(), titles, strict=True):
        own = texts.setdefault(query, [])
        if len(own) < most:
            own.append(title)
    return texts


def world_knowledge(knowledge: pa.Table, queries: pa.Table) -> dict[str, list[str]]:
    """Return the texts that a language model wrote about each query.

    `knowledge` has query_id and text, as the recipe knowledge publishes them; `queries` has query_id and query.
    Texts of queries that are not among `queries` are not returned.
    """
    known = knowledge.filter(pc.is_in(knowledge["query_id"], queries["query_id"].combine_chunks()))
    rows = rows_of_ids(known["query_id"], queries["query_id"], "query {} is not among the queries")
    written = normalised_query(queries["query"].take(pa.array(rows))).to_pylist()
    texts: dict[str, list[str]] = {}
    for query, text in zip(written, known["text"].to_pylist(), strict=True):
        texts.setdefault(query, []).append(text)
    return texts


def knowledge_column(queries: Sequence[str], sources: Iterable[Texts]) -> pa.Array:
    """Return the texts of all `sources` for each of the normalised `queries`, list<string> [n], each text once."""
    sources = list(sources)
    found = ([text for source in sources for text in source.get(query, ())] for query in queries)
    return pa.array([list(dict.fromkeys(texts)) for texts in found], pa.list_(pa.string()))
