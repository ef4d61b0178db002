"""UCI Online Retail (Chen 2015, CC BY 4.0): the purchases of a gift shop, as products and purchase events."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.checked_rows import DROPPED, FAULT, FILE, ROW, missing_faults
from raylevance.data.conversions import ID, NUMBER, TEXT, TIME
from raylevance.data.hash_buckets import distinct_rows
from raylevance.data.input_files import named_file
from raylevance.data.streamed_files import Columns, buckets_for_files, read_rows

PURCHASES = "purchases.parquet"
PRODUCT_COLUMNS = Columns({"Description": TEXT}, ("Description",), one_line=("Description",))
PURCHASE_COLUMNS = Columns(
    {"CustomerID": ID, "InvoiceDate": TIME, "Description": TEXT, "Quantity": NUMBER, "InvoiceNo": ID},
    ("CustomerID", "InvoiceDate", "Description", "Quantity"),
    one_line=("Description",),
)
NEVER_MISSING = ("CustomerID", "InvoiceDate", "Description")
REPEATED_PRODUCT = "repeats a product"
CANCELLED = "C"
"""The first letter of the number of a cancelled invoice."""


def read_uci(folder: Path) -> dict[str, ray.data.Dataset]:
    """Return the rows of products and events from `folder`/purchases.parquet.

    The description of a product is both its id and its title. The purchases of a customer in one minute are one basket,
    whose id is both the request and the session. The shop's local times are read as UTC. Returns, which are rows
    of a cancelled invoice or without a positive quantity, are left out of the events.

    Raises `RaylevanceError` if the file is missing or unreadable, or if a column is missing.
    """
    files = [named_file(folder, PURCHASES)]
    return {
        "products": distinct_rows(
            read_rows(files, "products", PRODUCT_COLUMNS, _products),
            "products",
            ["product_id"],
            buckets_for_files(files),
            REPEATED_PRODUCT,
        ),
        "events": read_rows(files, "events", PURCHASE_COLUMNS, _events),
    }


def _products(rows: pa.Table) -> pa.Table:
    name = pc.utf8_trim_whitespace(rows["Description"])
    fault = missing_faults(rows, PRODUCT_COLUMNS.required)
    return pa.table({"product_id": name, "title": name, FILE: rows[FILE], ROW: rows[ROW], FAULT: fault})


def _events(rows: pa.Table) -> pa.Table:
    customer = rows["CustomerID"]
    basket = pc.binary_join_element_wise(customer, pc.strftime(rows["InvoiceDate"], "%Y%m%dT%H%M"), "-")
    is_return = pc.or_(
        pc.fill_null(pc.less_equal(rows["Quantity"], 0), False),
        pc.fill_null(pc.starts_with(pc.utf8_upper(pc.utf8_trim_whitespace(rows["InvoiceNo"])), CANCELLED), False),
    )
    return pa.table(
        {
            "request_id": basket,
            "session_id": basket,
            "user_id": customer,
            "product_id": pc.utf8_trim_whitespace(rows["Description"]),
            "action": pa.repeat("purchase", rows.num_rows),
            "timestamp": rows["InvoiceDate"],
            FILE: rows[FILE],
            ROW: rows[ROW],
            FAULT: missing_faults(rows, NEVER_MISSING),
            DROPPED: pc.if_else(is_return, "a return, not a purchase", pa.scalar(None, pa.string())),
        }
    )
