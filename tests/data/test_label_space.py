"""A label space refuses what is no tree, finds labels by path, and reads back as it was written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data.label_space import LABELS, LabelSpace, label_text, with_side_text
from raylevance.errors import RaylevanceError


def labels(*rows: tuple[str, str, str, str | None], predicted: Sequence[str] | None = None) -> pa.Table:
    """Labels of (task, id, name, parent); all are predicted unless `predicted` names those that are."""
    return pa.Table.from_pylist(
        [
            {
                "task": task,
                "label_id": label_id,
                "name": name,
                "parent_id": parent,
                "text": name,
                "predicted": predicted is None or label_id in predicted,
            }
            for task, label_id, name, parent in rows
        ],
        LABELS,
    )


HOME = ("category", "h", "Home", None)
KETTLES = ("category", "k", "Kettles", "h")
ACME = ("brand", "k", "Acme", None)


def test_rows_parents_and_paths_of_two_tasks() -> None:
    """A child may stand before its parent, and two tasks may use one id."""
    space = LabelSpace(labels(KETTLES, HOME, ACME, predicted=["k"]))
    assert space.tasks == ["category", "brand"]
    assert len(space) == 3
    assert space.rows("category") == slice(0, 2)
    assert space.rows("brand") == slice(2, 3)
    np.testing.assert_array_equal(space.parents, [1, -1, -1])
    np.testing.assert_array_equal(space.parents_within("brand"), [-1])
    np.testing.assert_array_equal(space.predicted, [True, False, True])
    assert space.label_ids == ["k", "h", "k"]
    assert [space.path(row) for row in range(3)] == [["Home", "Kettles"], ["Home"], ["Acme"]]


def test_parents_within_a_task_are_numbered_from_its_first_label() -> None:
    space = LabelSpace(labels(ACME, KETTLES, HOME))
    np.testing.assert_array_equal(space.parents, [-1, 2, -1])
    np.testing.assert_array_equal(space.parents_within("category"), [1, -1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([HOME, ACME, KETTLES], "label 'k' ('Kettles') of task 'category': its task begins a second time here; sort"),
        ([HOME, KETTLES, KETTLES], "label 'k' ('Kettles') of task 'category': label 2 has the same id; remove one"),
        ([HOME, ("category", "x", " \u200b", "h")], "its name has no text; give it a name"),
        ([KETTLES], "no label has the id of its parent, 'h'; add the parent, or leave parent_id empty"),
        ([ACME, ("category", "x", "X", "k")], "of task 'category': no label has the id of its parent, 'k'"),
        ([("t", "a", "A", "a")], "it is above itself, through its parent 'a'; correct the parent_id"),
        (
            [("t", "r", "R", None), ("t", "x", "X", "a"), ("t", "a", "A", "b"), ("t", "b", "B", "a")],
            "label 'a' ('A') of task 't': it is above itself, through its parent 'b'",
        ),
        (
            [HOME, KETTLES, ("category", "x", " kettles", "h")],
            "label 'x' (' kettles') of task 'category': label 'k' has the same name and parent; make them one label",
        ),
    ],
)
def test_what_is_no_tree_is_refused(rows: list[tuple[str, str, str, str | None]], message: str) -> None:
    with pytest.raises(RaylevanceError) as caught:
        LabelSpace(labels(*rows))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_may_stand_below_two_parents() -> None:
    twice = labels(HOME, ("category", "g", "Garden", None), KETTLES, ("category", "x", "Kettles", "g"))
    assert LabelSpace(twice).path(3) == ["Garden", "Kettles"]


def test_missing_columns_values_and_tasks_are_named() -> None:
    table = labels(HOME, KETTLES)
    with pytest.raises(RaylevanceError, match=r"no column 'parent_id'"):
        LabelSpace(table.drop_columns(["parent_id"]))
    empty = pa.table([*table.columns[:2], pa.array(["Home", None]), *table.columns[3:]], LABELS.names)
    with pytest.raises(RaylevanceError, match=r"labels: row 2 has no name; every label needs one"):
        LabelSpace(empty)
    with pytest.raises(RaylevanceError, match=r"no task 'catgory'; did you mean 'category'\?"):
        LabelSpace(table).rows("catgory")


@settings(deadline=None)
@given(st.lists(st.integers(0, 10), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_a_random_tree_in_any_order(choices: list[int], random: object) -> None:
    """Label n is below label n - 1 - choice, if there is one; the order of the rows changes no path."""
    parent = {f"l{n}": f"l{n - 1 - choice}" if choice < n else None for n, choice in enumerate(choices)}
    rows = [("t", label_id, label_id.upper(), above) for label_id, above in parent.items()]
    random.shuffle(rows)  # type: ignore[attr-defined]
    space = LabelSpace(labels(*rows))
    for row, label_id in enumerate(space.label_ids):
        path: list[str] = []
        here: str | None = label_id
        while here is not None:
            path.append(here.upper())
            here = parent[here]
        assert space.path(row) == path[::-1]
        assert space.row_on_path("t", [name.lower() for name in space.path(row)]) == row


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(0, 11), st.integers(1, 12))
def test_any_cycle_is_found(size: int, start: int, length: int) -> None:
    """A chain of labels whose last `length` labels are a ring; those before it only lead into the ring."""
    first = max(0, size - length)
    rows = [("t", f"l{n}", f"L{n}", f"l{n + 1}" if n + 1 < size else f"l{first}") for n in range(size)]
    turned = rows[start % size :] + rows[: start % size]
    in_ring = {label_id for _, label_id, _, _ in rows[first:]}
    with pytest.raises(RaylevanceError, match="above itself") as caught:
        LabelSpace(labels(*turned))
    assert str(caught.value).split("'")[1] in in_ring


def test_the_deepest_predicted_label_on_a_path() -> None:
    space = LabelSpace(labels(HOME, KETTLES, predicted=["k"]))
    assert space.row_on_path("category", ["HOME", " ", "kettles ", "Steel"]) == 1
    assert space.row_on_path("category", ["Home", "Pans"]) == -1
    assert space.row_on_path("category", []) == -1
    assert LabelSpace(labels(HOME, KETTLES)).row_on_path("category", ["Home", "Pans"]) == 0


def test_saved_and_opened(tmp_path: Path) -> None:
    space = LabelSpace(labels(KETTLES, HOME, ACME))
    space.save(tmp_path / "new")
    assert LabelSpace.open(tmp_path / "new").labels.equals(space.labels)
    with pytest.raises(RaylevanceError, match="has no label space"):
        LabelSpace.open(tmp_path)
    whole = (tmp_path / "new" / "labels.parquet").read_bytes()
    (tmp_path / "labels.parquet").write_bytes(whole[:-9])
    with pytest.raises(RaylevanceError, match="may be incomplete"):
        LabelSpace.open(tmp_path)


def test_the_text_of_a_path_keeps_the_end() -> None:
    assert (
        label_text(["Office Products", "Office &amp; School  Supplies"]) == "Office Products Office & School Supplies"
    )
    assert label_text(["a b c", "d e", "f g"], most=5) == "d e f g"
    assert label_text(["a", "b c d e"], most=3) == "b c d"


def test_side_text_adds_only_what_is_new_and_is_bounded() -> None:
    table = labels(HOME, KETTLES)
    once = with_side_text(table, [["home", "HOME decor", "decor", "wall art"], []], most=3)
    assert once["text"].to_pylist() == ["Home HOME decor wall", "Kettles"]
    twice = with_side_text(once, [["lamps"], ["electric  kettle"]])
    assert twice["text"].to_pylist() == ["Home HOME decor wall lamps", "Kettles electric kettle"]
    assert twice.schema == LABELS
