"""Simulate an event log from judgements, for data without clicks. No real user clicked.

Each simulated request shows the judged products of a query in the order of a noisy engine, and a click model
(`raylevance.data.click_model`) decides what the user does with them. Artifacts that learn from such a log, or are
measured on it, must say so.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveInt

from raylevance.config import Settings
from raylevance.data.click_model import ENGINE_NOISE, ENGINE_SCORES, LOG_START, simulate_actions
from raylevance.data.hashing import hash_strings
from raylevance.data.schema import ACTIONS, ESCI_GRADES, EVENTS

MINUTE = 60_000
LABELS = list(ESCI_GRADES)
LABEL_OF_GRADE = {2: "E", 1: "S", 0: "I"}
"""The ESCI label taken for each grade if a judgement's own label is not one of ESCI's."""


class SimulationSettings(Settings):
    """How large the simulated log is, and how noisy the simulated engine."""

    requests: PositiveInt = 50
    """The number of requests for each query."""

    shown: PositiveInt = 16
    """The number of products that each request shows, those with the engine's highest scores."""

    noise: float = Field(ENGINE_NOISE, ge=0)
    """The scale of the Gumbel noise in the engine's scores."""


def simulate_clicks(judgements: pa.Table, settings: SimulationSettings, seed: int) -> pa.Table:
    """Return simulated events in the schema `EVENTS`, in the order of the queries in `judgements`.

    The events of a query depend on the seed, its id and its judgements alone.
    """
    grouped = judgements.select(["query_id", "product_id", "label", "grade"]).group_by("query_id", use_threads=False)
    rows = grouped.aggregate([(name, "list") for name in ("product_id", "label", "grade")])
    logs = [EVENTS.empty_table()]
    for row, key in zip(rows.to_pylist(), hash_strings(rows["query_id"]), strict=True):
        labels = [
            LABELS.index(label if label in LABELS else LABEL_OF_GRADE[grade])
            for label, grade in zip(row["label_list"], row["grade_list"], strict=True)
        ]
        random = np.random.default_rng([seed, int(key)])
        logs.append(_requests(row["query_id"], row["product_id_list"], np.array(labels), settings, random))
    return pa.concat_tables(logs)


def _requests(
    query: str, products: list[str], labels: np.ndarray, settings: SimulationSettings, random: np.random.Generator
) -> pa.Table:
    shape = settings.requests, min(settings.shown, len(products))
    score = ENGINE_SCORES[labels] + settings.noise * random.gumbel(size=(settings.requests, len(products)))
    shown = np.argsort(-score, axis=1, kind="stable")[:, : shape[1]]
    positions = np.broadcast_to(np.arange(1, shape[1] + 1), shape)
    actions = simulate_actions(positions, labels[shown], np.ones(shape), random.random((3, *shape)))
    has_action = np.stack([np.ones(shape, bool), *actions], axis=-1)
    request, rank, action = np.nonzero(has_action)
    requests = pa.array([f"{query}-{number}" for number in range(settings.requests)]).take(pa.array(request))
    columns = {
        "request_id": requests,
        "session_id": requests,
        "user_id": pa.nulls(len(request), pa.string()),
        "query_id": pa.array([query] * len(request)),
        "product_id": pa.array(products).take(pa.array(shown[request, rank])),
        "position": pa.array(positions[request, rank].astype(np.int32)),
        "action": pa.array(ACTIONS).take(pa.array(action)),
        "timestamp": pc.cast(pa.array(LOG_START + request * MINUTE + action), pa.timestamp("ms", tz="UTC")),
    }
    return pa.table(columns, schema=EVENTS)
