"""The graph that a new day is merged into: no event is counted twice, however often the command is called."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic_core import to_jsonable_python

from raylevance.artifacts import Artifact, Store
from raylevance.data.judged_tables import JudgedTables
from raylevance.errors import RaylevanceError, UsageError
from raylevance.graph.baskets import BasketFile
from workloads.run import Run
from workloads.steps.behaviour_graph import BehaviourSettings, graph_before, graph_step, query_ids_with_same_text


def published(store: Store, name: str, *parents: Artifact) -> Artifact:
    with store.publish(name, parents=[parent.ref for parent in parents], fingerprint=str(parents)) as draft:
        (draft.path / "file").write_text(name + str(len(store.artifacts())))
    assert draft.artifact is not None
    return draft.artifact


def test_a_day_is_merged_into_the_graph_before_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    days = [published(store, "tables/days") for _ in range(3)]
    first = published(store, "graph/behaviour", days[0])
    assert graph_before("graph/behaviour", days[1], store).ref == first.ref
    second = published(store, "graph/behaviour", days[1], first)
    assert graph_before("graph/behaviour", days[1], store).ref == first.ref, "the same command again"
    assert graph_before("graph/behaviour", days[2], store).ref == second.ref


def test_a_graph_of_the_same_events_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    day = published(store, "tables/days")
    graph = published(store, "graph/behaviour", day)
    with pytest.raises(RaylevanceError, match=f"{graph.ref} was built from the events of {day.ref}"):
        graph_before("graph/behaviour", day, store)
    with pytest.raises(UsageError, match=r"behaviour\.merge_into=tables/days: expected graph/NAME"):
        graph_before("tables/days", day, store)


def test_a_query_with_the_text_of_a_held_out_one_is_held_out_too() -> None:
    queries = pa.table({"query_id": ["a", "b", "c", "d"], "query": ["red lamp", "Red  Lamp", "lamp", "lamp"]})
    assert query_ids_with_same_text(pa.array(["a"]), queries).to_pylist() == ["a", "b"]
    assert query_ids_with_same_text(pa.array(["d", "z"]), queries).to_pylist() == ["c", "d"]


def test_a_basket_file_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same baskets at another place make the same graph."""
    store = Store(tmp_path / "store")
    with store.publish("tables/shop") as draft:
        for name, column in (("queries", "query_id"), ("products", "product_id"), ("events", "query_id")):
            (draft.path / name).mkdir()
            pq.write_table(pa.table({column: ["a"], "query": ["red lamp"]}), draft.path / name / "part.parquet")
    assert draft.artifact is not None
    fingerprints = []
    for place, product in (("here", "p"), ("there", "p"), ("there", "other")):
        (tmp_path / place).mkdir(exist_ok=True)
        pq.write_table(pa.table({"basket": ["1"], "product_id": [product]}), tmp_path / place / "baskets.parquet")
        baskets = BasketFile(file=tmp_path / place / "baskets.parquet", basket=("basket",))
        run = Run(store)
        monkeypatch.setattr(run, "step", lambda name, build, settings, **_: to_jsonable_python(settings))
        settings = BehaviourSettings(baskets=baskets)
        judged = JudgedTables(*(pa.table({"query_id": ["a"]}) for _ in range(3)))
        fingerprints.append(graph_step(run, draft.artifact, judged, pa.array(["a"]), settings, seed=0))
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
