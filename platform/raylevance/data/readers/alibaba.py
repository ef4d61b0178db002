"""A multi-behaviour log of Alibaba (Tianchi competition of 2019, sampled by Xue et al. 2020), as products and events.

The log has clicks, favourites, carts and purchases with a date and no time; there are no queries and no texts.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.actions import our_action
from raylevance.data.checked_rows import FAULT, FILE, ROW, missing_faults
from raylevance.data.conversions import ID, NUMBER, TEXT, TIME
from raylevance.data.input_files import named_file
from raylevance.data.streamed_files import Columns, read_rows

ITEMS, INTERACTIONS = "items.parquet", "interactions.parquet"
ITEM_COLUMNS = Columns({"product_id": ID, "category": ID, "brand": ID, "price": NUMBER}, ("product_id",))
INTERACTION_COLUMNS = Columns(
    {"user_id": ID, "product_id": ID, "action": TEXT, "date": TIME}, ("user_id", "product_id", "action", "date")
)
FAVOURITE, TAKEN_AS = "favourite", "cart"
"""A favourite is an intention to buy, as an item in the cart is; the tables know no action between (our choice)."""


def read_alibaba(folder: Path) -> dict[str, ray.data.Dataset]:
    """Return the rows of products and events from `folder`/items.parquet and interactions.parquet.

    The log has no texts, so the title of a product is its id. The actions of a user on one day are one request, whose
    id is also the session. A favourite is read as an item put into the cart.

    Raises `RaylevanceError` if a file is missing or unreadable, or if a column is missing.
    """
    return {
        "products": read_rows([named_file(folder, ITEMS)], "products", ITEM_COLUMNS, _products),
        "events": read_rows([named_file(folder, INTERACTIONS)], "events", INTERACTION_COLUMNS, _events),
    }


def _products(rows: pa.Table) -> pa.Table:
    category = rows["category"].combine_chunks()
    lengths = pc.if_else(category.is_valid(), 1, 0).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    paths = pa.ListArray.from_arrays(offsets, category.drop_null(), mask=category.is_null())
    return pa.table(
        {
            "product_id": rows["product_id"],
            "title": rows["product_id"],
            "brand": rows["brand"],
            "category": paths,
            "price": rows["price"],
            FILE: rows[FILE],
            ROW: rows[ROW],
        }
    )


def _events(rows: pa.Table) -> pa.Table:
    name = pc.utf8_lower(pc.utf8_trim_whitespace(rows["action"]))
    taken = pc.if_else(pc.is_in(name, pa.array([FAVOURITE, "favorite"])), TAKEN_AS, name)
    known = our_action(taken)
    unknown = pc.and_(rows["action"].is_valid(), known.is_null())
    fault = pc.coalesce(
        missing_faults(rows, INTERACTION_COLUMNS.required),
        pc.if_else(unknown, "action is not click, favourite, cart or purchase", pa.scalar(None, pa.string())),
    )
    day = pc.binary_join_element_wise(rows["user_id"], pc.strftime(rows["date"], "%Y%m%d"), "-")
    return pa.table(
        {
            "request_id": day,
            "session_id": day,
            "user_id": rows["user_id"],
            "product_id": rows["product_id"],
            "action": pc.coalesce(known, rows["action"]),
            "timestamp": rows["date"],
            FILE: rows[FILE],
            ROW: rows[ROW],
            FAULT: fault,
        }
    )
