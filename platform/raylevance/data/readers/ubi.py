"""Read User Behavior Insights (UBI 1.x, o19s/ubi), an open format of search logs with queries and events.

Both are Parquet or JSON Lines files with one record a row, as exported from the indices ubi_queries and ubi_events.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.checked_rows import FILE, ROW, row_schema, with_fault
from raylevance.data.hash_buckets import distinct_rows, join_buckets
from raylevance.data.streamed_files import Columns, buckets_for_files, matching_files, read_rows
from raylevance.data.text import query_key
from raylevance.errors import RaylevanceError

ACTIONS = {
    "impression": "exposure",
    "view": "exposure",
    "click": "click",
    "click_through": "click",
    "add_to_cart": "cart",
    "purchase": "purchase",
}
"""Our names of UBI's actions. Rows with other actions are left out."""

QUERY_COLUMNS = Columns(("query_id", "user_query"))
OBJECT_ID = "event_attributes.object.object_id"
ORDINAL = "event_attributes.position.ordinal"
NESTED_SESSION = "event_attributes.session_id"
EVENT_COLUMNS = Columns(
    ("action_name", "query_id", "timestamp", OBJECT_ID), ("client_id", "session_id", ORDINAL, NESTED_SESSION)
)


def read_ubi(folder: Path) -> dict[str, ray.data.Dataset]:
    """Return the rows of queries and events from the files ubi_queries* and ubi_events* in `folder`.

    The files are .parquet, .jsonl or .ndjson. UBI's columns become ours like this:

    - UBI's query_id numbers the requests, so it is our request_id. Our query_id is made from the query's text
      (`text.query_key`), so it is the same for all requests with one text.
    - The request_id of an event outside a search is its session, or its client if it has no session.
    - The client is the user.
    - Positions stay as the log counts them.

    Raises `RaylevanceError` if queries or events are missing, or if a column is missing.
    """
    query_files, event_files = _files(folder, "ubi_queries"), _files(folder, "ubi_events")
    requests = read_rows(query_files, "queries", QUERY_COLUMNS, _requests)
    events = read_rows(event_files, "events", EVENT_COLUMNS, _events)
    texts = requests.map_batches(_keyed_by_text, batch_format="pyarrow", batch_size=None)
    schemas = row_schema("events"), pa.schema([("query_id", pa.string()), ("query", pa.string())])
    buckets = buckets_for_files([*query_files, *event_files])
    return {
        "queries": distinct_rows(texts, "queries", ["query_id"], buckets_for_files(query_files)),
        "events": join_buckets(events, requests, "query_id", _with_text_key, schemas, buckets),
    }


def _files(folder: Path, stem: str) -> list[Path]:
    files = matching_files(folder, stem)
    if not files:
        raise RaylevanceError(f"{folder}: has no {stem}.parquet or {stem}.jsonl")
    return files


def _requests(rows: pa.Table) -> pa.Table:
    return rows.rename_columns({"user_query": "query"})


def _events(rows: pa.Table) -> pa.Table:
    rows = rows.filter(pc.is_in(rows["action_name"].cast(pa.string()), pa.array(list(ACTIONS))))
    names = pa.array(list(ACTIONS)), pa.array(list(ACTIONS.values()))
    session = pc.coalesce(*(rows[name].cast(pa.string()) for name in ("session_id", NESTED_SESSION)))
    client = rows["client_id"].cast(pa.string())
    position = rows[ORDINAL]
    if pa.types.is_struct(position.type):
        position = pc.struct_field(position, "index")
    return pa.table(
        {
            "request_id": pc.coalesce(rows["query_id"].cast(pa.string()), session, client),
            "session_id": session,
            "user_id": client,
            "query_id": rows["query_id"],
            "product_id": rows[OBJECT_ID],
            "position": position,
            "action": pc.take(names[1], pc.index_in(rows["action_name"].cast(pa.string()), names[0])),
            "timestamp": rows["timestamp"],
            FILE: rows[FILE],
            ROW: rows[ROW],
        }
    )


def _keyed_by_text(requests: pa.Table) -> pa.Table:
    return requests.set_column(requests.column_names.index("query_id"), "query_id", query_key(requests["query"]))


def _with_text_key(events: pa.Table, requests: pa.Table) -> pa.Table:
    """Replace the query_id of the events in one bucket by the key of their request's text."""
    requests = requests.filter(requests["query"].is_valid()).sort_by("query_id")
    request_rows = pc.index_in(events["query_id"], requests["query_id"])
    keys = pc.take(query_key(requests["query"]), request_rows)
    unknown = pc.and_(events["query_id"].is_valid(), request_rows.is_null()).combine_chunks()
    events = with_fault(events, unknown, "query_id is not in ubi_queries")
    events = events.set_column(events.column_names.index("query_id"), "query_id", keys)
    return events.sort_by([(FILE, "ascending"), (ROW, "ascending")])
