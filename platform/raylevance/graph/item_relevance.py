"""The objective of relevance from judgements: two items are relevant to each other if both are relevant to one query.

Source: GCL-MO (arXiv 2307.04322), 4.3. In place of the paper's online relevance model stand judged pairs.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.schema import GRADES
from raylevance.graph.edges import NodeIds
from raylevance.graph.item_objectives import pairs_within, sum_edges

MOST_ITEMS = 100
"""The most items of a query that are joined with each other, which bounds the edges of a broad query."""


def write_judged_relevance(judgements: pa.Table, items: NodeIds, folder: Path) -> tuple[int, int]:
    """Write the graph between items of the highest grade for one query to `folder`.

    `judgements` has query_id, product_id and grade. The items of a query share a weight of 1. Of more than
    `MOST_ITEMS` items the first by number are taken. Returns the edges, and how many queries have more.
    """
    relevant = judgements.filter(pc.equal(judgements["grade"], GRADES[-1]))
    query = pc.rank(relevant["query_id"], tiebreaker="dense").to_numpy().astype(np.int64)
    item = items.lookup(relevant["product_id"]).astype(np.int64)
    pairs = np.unique(query[item >= 0] * len(items) + item[item >= 0])
    query, item = np.divmod(pairs, len(items))
    sizes = np.bincount(query) if len(query) else np.empty(0, np.int64)
    rank = np.arange(len(query)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    query, item = query[rank < MOST_ITEMS], item[rank < MOST_ITEMS]
    left, right, weights = pairs_within(query)
    graph = sum_edges(item[left], item[right], weights, (len(items), 2 * len(items)))
    graph.save(folder / "00000.arrow")
    return len(graph.indices), int((sizes > MOST_ITEMS).sum())
