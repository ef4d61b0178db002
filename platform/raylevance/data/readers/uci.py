"""UCI Online Retail (Chen 2015, CC BY 4.0): the purchases of a gift shop, as products and purchase events."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.buckets import distinct_rows
from raylevance.data.files import Columns, buckets_of, read_rows
from raylevance.data.rows import FILE, ROW

PURCHASES = "purchases.parquet"
COLUMNS = Columns(("CustomerID", "InvoiceDate", "Description"))


def read_uci(folder: Path) -> dict[str, ray.data.Dataset]:
    """Rows of products and events from `folder`/purchases.parquet.

    A product is known by its description alone, which is its id and its title. A customer's purchases of one minute are
    one basket: its id is both the request and the session. Times are the shop's, read as UTC. Raises `RaylevanceError`
    for a missing or torn file and for a missing column.
    """
    files = [folder / PURCHASES]
    return {
        "products": distinct_rows(
            read_rows(files, "products", COLUMNS, _products), "products", ["product_id"], buckets_of(files)
        ),
        "events": read_rows(files, "events", COLUMNS, _events),
    }


def _products(rows: pa.Table) -> pa.Table:
    name = pc.utf8_trim_whitespace(rows["Description"])
    return pa.table({"product_id": name, "title": name, FILE: rows[FILE], ROW: rows[ROW]})


def _events(rows: pa.Table) -> pa.Table:
    time = rows["InvoiceDate"].cast(pa.timestamp("ms"))
    customer = rows["CustomerID"].cast(pa.string())
    basket = pc.binary_join_element_wise(customer, pc.strftime(time, "%Y%m%dT%H%M"), "-")
    return pa.table(
        {
            "request_id": basket,
            "session_id": basket,
            "user_id": customer,
            "product_id": pc.utf8_trim_whitespace(rows["Description"]),
            "action": pa.repeat("purchase", rows.num_rows),
            "timestamp": pc.assume_timezone(time, "UTC"),
            FILE: rows[FILE],
            ROW: rows[ROW],
        }
    )
