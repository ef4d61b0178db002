"""UCI Online Retail (Chen 2015, CC BY 4.0): the purchases of a gift shop, as products and purchase events."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.checked_rows import FILE, ROW
from raylevance.data.hash_buckets import distinct_rows
from raylevance.data.streamed_files import Columns, buckets_for_files, read_rows

PURCHASES = "purchases.parquet"
COLUMNS = Columns(("CustomerID", "InvoiceDate", "Description"))


def read_uci(folder: Path) -> dict[str, ray.data.Dataset]:
    """Return the rows of products and events from `folder`/purchases.parquet.

    The description of a product is both its id and its title. The purchases of a customer in one minute are one basket,
    whose id is both the request and the session. The shop's local times are read as UTC.

    Raises `RaylevanceError` if the file is missing or unreadable, or if a column is missing.
    """
    files = [folder / PURCHASES]
    return {
        "products": distinct_rows(
            read_rows(files, "products", COLUMNS, _products), "products", ["product_id"], buckets_for_files(files)
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
