"""Read User Behavior Insights (UBI 1.x, o19s/ubi), an open format of search logs with queries and events.

Both are Parquet or JSON Lines files with one record a row, as exported from the indices ubi_queries and ubi_events.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.actions import our_action
from raylevance.data.checked_rows import (
    DROPPED,
    FAULT,
    FILE,
    ROW,
    dropped_rows,
    missing_faults,
    row_schema,
    with_fault,
)
from raylevance.data.conversions import ID, POSITION, TEXT, TIME
from raylevance.data.hash_buckets import distinct_of_table, distinct_rows, join_buckets
from raylevance.data.input_files import matching_files
from raylevance.data.streamed_files import Columns, buckets_for_files, read_rows
from raylevance.data.text import query_key
from raylevance.errors import RaylevanceError

ENVELOPE = "_source"
"""What dumps of an index put around each record."""

QUERY_COLUMNS = Columns({"query_id": ID, "user_query": TEXT}, ("query_id", "user_query"), envelope=ENVELOPE)
OBJECT_ID = "event_attributes.object.object_id"
PLACE = "event_attributes.position"
ORDINAL = f"{PLACE}.ordinal"
NESTED_SESSION = "event_attributes.session_id"
EVENT_ID = "event_id"
EVENT_COLUMNS = Columns(
    {
        "action_name": TEXT,
        "query_id": ID,
        "timestamp": TIME,
        OBJECT_ID: ID,
        "client_id": ID,
        "session_id": ID,
        ORDINAL: POSITION,
        PLACE: POSITION,  # of a log that writes the number without an object around it
        NESTED_SESSION: ID,
        EVENT_ID: TEXT,
    },
    required=("action_name", "query_id", "timestamp", OBJECT_ID),
    inside={ORDINAL: "index", PLACE: ""},
    envelope=ENVELOPE,
)
LONGEST_NAME = 60
QUERY_MISSING = "query is missing"
"""The fault that a row without a `user_query` gets."""
TEXTLESS = "has no user_query; its events are kept, without a query"


def read_ubi(folder: Path) -> dict[str, ray.data.Dataset]:
    """Return the rows of queries and events from the files ubi_queries* and ubi_events* in `folder`.

    The files are Parquet or JSON, and a record may be wrapped in `_source`. Events with an action that is not in
    `actions.ACTION_NAMES` are left out. UBI's columns become ours like this:

    - UBI's query_id numbers the requests, so it is our request_id. Our query_id is made from the query's text
      (`text.query_key`), so it is the same for all requests with one text.
    - The request_id of an event outside a search is its session, or its client if it has no session.
    - The client is the user.
    - Positions stay as the log counts them.
    - A request without a text, such as a list of recommendations, is no query of ours and is left out of them. Its
      events keep their request_id, and have no query_id.

    An event of a query_id that stands for several texts is a bad row: which of them was searched is not known.

    If events have an `event_id`, one that repeats the query_id and event_id of an earlier event is left out. (UBI has
    no such column. The two together, because clients choose the ids of events.)

    Raises `RaylevanceError` if queries or events are missing, or if a column is missing.
    """
    query_files, event_files = _files(folder, "ubi_queries"), _files(folder, "ubi_events")
    requests = read_rows(query_files, "queries", QUERY_COLUMNS, _requests)
    events = read_rows(event_files, "events", EVENT_COLUMNS, _events, beside=[EVENT_ID])
    texts = requests.map_batches(_keyed_by_text, batch_format="pyarrow", batch_size=None)
    schemas = (
        row_schema("events").append(pa.field(EVENT_ID, pa.string())),
        pa.schema([("query_id", pa.string()), ("query", pa.string()), (FAULT, pa.string())]),
    )
    buckets = buckets_for_files([*query_files, *event_files])
    return {
        "queries": distinct_rows(
            texts, "queries", ["query_id"], buckets_for_files(query_files), "repeats the text of a query"
        ),
        "events": join_buckets(events, requests, "query_id", _with_text_key, schemas, buckets, EVENT_ID),
    }


def _files(folder: Path, stem: str) -> list[Path]:
    files = matching_files(folder, stem)
    if not files:
        raise RaylevanceError(f"{folder}: has no {stem}.parquet or {stem}.jsonl")
    return files


def _requests(rows: pa.Table) -> pa.Table:
    return rows.rename_columns({"user_query": "query"})


def _events(rows: pa.Table) -> pa.Table:
    name, action = rows["action_name"], our_action(rows["action_name"])
    other = pc.and_(name.is_valid(), action.is_null())
    reason = pc.binary_join_element_wise("action", pc.utf8_slice_codeunits(name, 0, LONGEST_NAME), "is not read", " ")
    session = pc.coalesce(rows["session_id"], rows[NESTED_SESSION])
    return pa.table(
        {
            "request_id": pc.coalesce(rows["query_id"], session, rows["client_id"]),
            "session_id": session,
            "user_id": rows["client_id"],
            "query_id": rows["query_id"],
            "product_id": rows[OBJECT_ID],
            "position": pc.coalesce(rows[ORDINAL], rows[PLACE]),
            "action": action,
            "timestamp": rows["timestamp"],
            EVENT_ID: _identity(rows),
            FILE: rows[FILE],
            ROW: rows[ROW],
            FAULT: missing_faults(rows, ("action_name", OBJECT_ID, "timestamp")),
            DROPPED: pc.if_else(other, reason, pa.scalar(None, pa.string())),
        }
    )


def _identity(rows: pa.Table) -> pa.ChunkedArray:
    """Return the event_id of each event, and its place for one without an id, which repeats no other."""
    place = pc.binary_join_element_wise(rows[FILE], rows[ROW].cast(pa.string()), "\n")
    return pc.coalesce(rows[EVENT_ID], place)


def _keyed_by_text(requests: pa.Table) -> pa.Table:
    """Make the query_id of requests from their texts, and leave out those that have none."""
    key = _text_key(requests["query"])
    textless = pc.and_(_is_good_but_for_text(requests), key.is_null()).combine_chunks()
    dropped = requests.filter(textless).drop_columns([DROPPED])
    dropped = dropped.append_column(DROPPED, pa.repeat(TEXTLESS, dropped.num_rows))
    keyed = requests.set_column(requests.column_names.index("query_id"), "query_id", key).filter(pc.invert(textless))
    return pa.concat_tables([keyed, dropped_rows(dropped, "queries")])


def _is_good_but_for_text(requests: pa.Table) -> pa.ChunkedArray:
    return pc.equal(pc.fill_null(requests[FAULT], QUERY_MISSING), QUERY_MISSING)


def _text_key(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the `query_key` of each text, null for one that is null, blank or invisible."""
    keys = query_key(texts)
    [of_blank] = query_key(pa.array([""]))
    return pc.if_else(pc.equal(keys, of_blank), pa.scalar(None, pa.string()), keys)


def _with_text_key(events: pa.Table, requests: pa.Table) -> pa.Table:
    """Replace the query_id of the events in one bucket by the key of their request's text, and leave out repeats."""
    events = distinct_of_table(events, "events", ["query_id", EVENT_ID], "repeats an event_id")
    requests = requests.filter(_is_good_but_for_text(requests))
    texts = pa.table({"query_id": requests["query_id"], "key": _text_key(requests["query"])})
    texts = texts.filter(texts["key"].is_valid())
    texts = texts.group_by("query_id").aggregate([("key", "count_distinct"), ("key", "min")])
    request_rows = pc.index_in(events["query_id"], texts["query_id"])
    keys = pc.take(texts["key_min"], request_rows)
    known = pc.is_in(events["query_id"], requests["query_id"].combine_chunks())
    unknown = pc.and_(events["query_id"].is_valid(), pc.invert(known)).combine_chunks()
    events = with_fault(events, unknown, "query_id is not in ubi_queries")
    several = pc.greater(pc.take(texts["key_count_distinct"], request_rows), 1)
    several = pc.and_(events["query_id"].is_valid(), pc.fill_null(several, False)).combine_chunks()
    events = with_fault(events, several, "query_id has several texts in ubi_queries")
    return events.set_column(events.column_names.index("query_id"), "query_id", keys)
