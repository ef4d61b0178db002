"""The simulated log follows the judgements and the click model."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raylevance.data.schema import ACTIONS, EVENTS
from raylevance.data.simulated_clicks import SimulationSettings, simulate_clicks


def judged(queries: int = 3, label: bool = True) -> pa.Table:
    names = [f"q{number}" for number in range(queries) for _ in range(24)]
    letters = list("ESCI" * 6) * queries
    return pa.table(
        {
            "query_id": names,
            "product_id": [f"p{number}" for number in range(len(names))],
            "label": letters if label else pa.nulls(len(names), pa.string()),
            "grade": pa.array([{"E": 2, "S": 1, "C": 1, "I": 0}[letter] for letter in letters], pa.int8()),
        }
    )


def test_better_products_are_shown_higher_and_engaged_with_more() -> None:
    events = simulate_clicks(judged(), SimulationSettings(requests=400), seed=0)
    assert events.schema.equals(EVENTS)
    letters = pa.array(list("ESCI" * 18)).take(pc.cast(pc.utf8_slice_codeunits(events["product_id"], 1), pa.int64()))
    counts = {
        action: [
            pc.sum(pc.and_(pc.equal(events["action"], action), pc.equal(letters, each))).as_py() for each in "ESCI"
        ]
        for action in ACTIONS
    }
    assert all(values == sorted(values, reverse=True) for values in counts.values())
    assert [sum(counts[action]) for action in ACTIONS] == sorted(map(sum, counts.values()), reverse=True)
    assert sum(counts["exposure"]) == 3 * 400 * 16
    assert pc.max(events["position"]).as_py() == 16


def test_a_query_has_the_same_log_whoever_else_is_asked_about() -> None:
    alone = simulate_clicks(judged(1), SimulationSettings(), seed=5)
    together = simulate_clicks(judged(3), SimulationSettings(), seed=5)
    assert together.filter(pc.equal(together["query_id"], "q0")).equals(alone)
    assert not simulate_clicks(judged(1), SimulationSettings(), seed=6).equals(alone)


@pytest.mark.parametrize("rows", [0, 5])
def test_few_products_are_all_shown(rows: int) -> None:
    events = simulate_clicks(judged(1, label=False).slice(0, rows), SimulationSettings(requests=2), seed=0)
    assert pc.sum(pc.equal(events["action"], "exposure")).as_py() == (2 * rows or None)
