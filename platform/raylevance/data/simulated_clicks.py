"""An event log simulated from judgements, for data that has no clicks: nobody really clicked.

Each simulated request shows a query's judged products in the order of a noisy engine, and the click model of the demo
shop (`raylevance.data.click_model`) decides what is done with them. Whatever is learned or measured on such a log says
so.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveInt

from raylevance.config import Settings
from raylevance.data.click_model import ENGINE_NOISE, ENGINE_SCORES, LOG_START, act
from raylevance.data.hashing import hash_strings
from raylevance.data.schema import ACTIONS, ESCI_GRADES, EVENTS

MINUTE = 60_000
LABELS = list(ESCI_GRADES)
LABEL_OF_GRADE = {2: "E", 1: "S", 0: "I"}
"""Of judgements whose own labels are not those of ESCI."""


class SimulationSettings(Settings):
    """`requests` of each query, each showing the `shown` products that the engine likes best."""

    requests: PositiveInt = 50
    shown: PositiveInt = 16
    noise: float = Field(ENGINE_NOISE, ge=0)
    """Of the engine's score, as the scale of a Gumbel distribution."""


def simulate_clicks(judgements: pa.Table, settings: SimulationSettings, seed: int) -> pa.Table:
    """Events (`EVENTS`) of requests for the queries of `judgements`, in their order.

    A query's events depend on the seed, its id and its judgements alone.
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
    actions = act(positions, labels[shown], np.ones(shape), random.random((3, *shape)))
    done = np.stack([np.ones(shape, bool), *actions], axis=-1)
    request, place, action = np.nonzero(done)
    requests = pa.array([f"{query}-{number}" for number in range(settings.requests)]).take(pa.array(request))
    columns = {
        "request_id": requests,
        "session_id": requests,
        "user_id": pa.nulls(len(request), pa.string()),
        "query_id": pa.array([query] * len(request)),
        "product_id": pa.array(products).take(pa.array(shown[request, place])),
        "position": pa.array(positions[request, place].astype(np.int32)),
        "action": pa.array(ACTIONS).take(pa.array(action)),
        "timestamp": pc.cast(pa.array(LOG_START + request * MINUTE + action), pa.timestamp("ms", tz="UTC")),
    }
    return pa.table(columns, schema=EVENTS)
