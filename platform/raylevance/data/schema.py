"""Arrow schemas of the four tables. A column that is not nullable must be present, and no value null or empty."""

import pyarrow as pa

GRADES = (0, 1, 2)
"""0 is not relevant, 1 is moderately relevant (a substitute or a complement), 2 is relevant."""

ESCI_GRADES = {"E": 2, "S": 1, "C": 1, "I": 0}
"""The grades of the ESCI labels: exact, substitute, complement, irrelevant.

Source: Reddy et al. 2022 (arXiv 2206.06588) for the labels, Mine and Refine (arXiv 2602.17654) for their grades.
"""

MODEL_PREFIX = "llm:"
"""The beginning of `source` in rows that a judge or a language model wrote. Its version follows."""

SPLITS = ("train", "validation", "test")

ACTIONS = ("exposure", "click", "cart", "purchase")

CATEGORY_SEPARATOR = " > "
"""Joins the levels of a category path into one string, which is the id of the category."""

PRODUCTS = pa.schema(
    [
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("description", pa.string()),
        pa.field("bullets", pa.string()),
        pa.field("brand", pa.string()),
        pa.field("color", pa.string()),
        pa.field("category", pa.list_(pa.string())),
        pa.field("locale", pa.string()),
        pa.field("price", pa.float64()),
    ]
)
"""`category` is the path from the root, such as ["Home", "Kitchen", "Kettles"]. Tables of an old import have no
`price`."""

QUERIES = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),
        pa.field("locale", pa.string()),
    ]
)

JUDGEMENTS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("grade", pa.int8(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("confidence", pa.float32()),
        pa.field("split", pa.string()),
    ]
)
"""`label` is the data set's own label, `grade` is one of `GRADES`, and `confidence` is between 0 and 1.

`source` is "human", or `MODEL_PREFIX` and the version of a judge.
"""

EVENTS = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("session_id", pa.string()),
        pa.field("user_id", pa.string()),
        pa.field("query_id", pa.string()),
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("position", pa.int32()),
        pa.field("action", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
    ]
)
"""`position` is the rank in the list of results. It and `query_id` are null for an event without a search."""

TABLES = {"products": PRODUCTS, "queries": QUERIES, "judgements": JUDGEMENTS, "events": EVENTS}
"""The tables in the order of import. A table refers only to tables before it."""

KEYS = {"products": "product_id", "queries": "query_id"}
"""The unique column of a table. Other tables refer to it by the same name."""


def required_columns(schema: pa.Schema) -> list[str]:
    """Return the names of the columns of `schema` that may not be missing, null or empty."""
    return [field.name for field in schema if not field.nullable]


REPEATED_QUERY = "repeats a query"
"""The reason why an import leaves out a row of judgements when it makes the table of queries."""
