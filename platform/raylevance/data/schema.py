"""The four tables, as Arrow schemas. A column that is not nullable is required: present, not null, not empty."""

import pyarrow as pa

GRADES = (0, 1, 2)
"""0 not relevant, 1 moderately relevant (a substitute or a complement), 2 relevant."""

ESCI_GRADES = {"E": 2, "S": 1, "C": 1, "I": 0}
"""Exact, substitute, complement, irrelevant (Reddy et al. 2022, arXiv 2206.06588) as the grades of Mine and Refine."""

LANGUAGE_MODEL = "llm:"
"""How the source of what a judge or a language model gave begins; its version follows."""

ACTIONS = ("exposure", "click", "cart", "purchase")

CATEGORY_SEPARATOR = " > "
"""Joins a category path into one string: the id of a category."""

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
    ]
)
"""`category`: the path from the root, such as ["Home", "Kitchen", "Kettles"]."""

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
"""`label`: the data set's own; `grade`: one of `GRADES`; `confidence`: 0 to 1.

`source`: human, or `LANGUAGE_MODEL` and its version.
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
"""`query_id` and `position` (the rank in the list that was shown) are null for an event that followed no search."""

TABLES = {"products": PRODUCTS, "queries": QUERIES, "judgements": JUDGEMENTS, "events": EVENTS}
"""In the order of import: a table refers only to those before it."""

KEYS = {"products": "product_id", "queries": "query_id"}
"""The column that is unique in a table, and that other tables refer to by the same name."""


def required(schema: pa.Schema) -> list[str]:
    """The columns of `schema` that may not be missing, null or empty."""
    return [field.name for field in schema if not field.nullable]
