"""What is known about queries besides their text, from the tables of a recipe.

Source: SSUF (arXiv 2506.21049), knowledge-enhanced module.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from raylevance.data.id_rows import rows_of_ids
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.query_knowledge import EDGES, clicked_products, posterior_knowledge, world_knowledge
from raylevance.data.schema import GRADES


def known_texts(
    tables: Path | None, judged: JudgedTables, titles: int, world: Path | None, *, clicks: bool, judgements: bool
) -> list[Mapping[str, list[str]]]:
    """Return the texts that are known about queries, by source: `titles` of their products, and those of a model.

    `clicks` and `judgements` say which of them tell the products of a query.
    """
    found: list[Mapping[str, list[str]]] = []
    if titles and tables is not None:
        edges = query_products(tables, judged, clicks=clicks, judgements=judgements)
        queries = judged.queries.filter(pc.is_in(judged.queries["query_id"], edges["query_id"].combine_chunks()))
        rows = rows_of_ids(edges["query_id"], queries["query_id"], "query {} is not among the queries")
        texts = queries["query"].take(pa.array(rows))
        weights = edges["weight"].to_numpy()
        found.append(posterior_knowledge(texts, edges["product_id"], weights, judged.products, titles))
    if world is not None:
        found.append(world_knowledge(pq.read_table(world / "knowledge"), judged.queries))
    return found


def query_products(tables: Path, judged: JudgedTables, *, clicks: bool, judgements: bool) -> pa.Table:
    """Return the edges of queries and their products, in `EDGES`: clicked ones, and those of the best grade."""
    good = judged.judgements.filter(pc.equal(judged.judgements["grade"], max(GRADES)))
    columns = [good["query_id"], good["product_id"], pa.array(np.ones(good.num_rows))]
    edges = pa.table(columns, schema=EDGES) if judgements else EDGES.empty_table()
    if clicks and (tables / "events").is_dir():
        clicked = clicked_products(ray.data.read_parquet(str(tables / "events")))
        for column, table in (("query_id", judged.queries), ("product_id", judged.products)):
            clicked = clicked.filter(pc.is_in(clicked[column], table[column].combine_chunks()))
        edges = pa.concat_tables([edges, clicked])
    return edges
