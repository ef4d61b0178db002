"""The worth of a judge against float64 loops, its properties, and the line with which it is refused."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylevance.judges.worth import BEST, best_results, expected_grades, measure_worth, rank_again, why_worthless

Graded = dict[str, dict[str, float]]


def judged(rows: list[tuple[str, str, int]]) -> pa.Table:
    columns = list(zip(*rows, strict=True))
    table = dict(zip(("query_id", "product_id", "grade"), map(list, columns), strict=True))
    return pa.table({**table, "label": [str(grade) for grade in columns[2]]})


def shop(seed: int, queries: int = 8) -> tuple[Graded, list[tuple[str, str, int]]]:
    """Results of a search that knows nothing, and judgements of most of them and of others."""
    rng = np.random.default_rng(seed)
    run = {f"q{q}": {f"p{p}": float(rng.random()) for p in rng.permutation(20)} for q in range(queries)}
    rows = [(query, product, int(rng.integers(3))) for query, found in run.items() for product in list(found)[:16]]
    return run, rows + [(query, "elsewhere", 2) for query in run]


def naive_ndcg(found: dict[str, float], grades: dict[str, int]) -> float:
    ranked = sorted(found, key=lambda product: -found[product])[:10]
    dcg = sum(grades.get(product, 0) / math.log2(rank + 2) for rank, product in enumerate(ranked))
    ideal = sorted(grades.values(), reverse=True)[:10]
    return dcg / sum(grade / math.log2(rank + 2) for rank, grade in enumerate(ideal))


@pytest.mark.parametrize("seed", range(3))
def test_the_gain_and_the_area_by_loops(seed: int) -> None:
    run, rows = shop(seed)
    rng = np.random.default_rng(seed + 9)
    answers = {query: {product: float(rng.random() * 2) for product in found} for query, found in run.items()}
    found = measure_worth(run, answers, judged(rows))
    before, after, areas = [], [], []
    for query, results in run.items():
        grades = {product: grade for asked, product, grade in rows if asked == query}
        low, high = min(results.values()), max(results.values())
        least, most = min(answers[query].values()), max(answers[query].values())
        mixed = {
            product: (score - low) / (high - low) / 2 + (answers[query][product] - least) / (most - least) / 2
            for product, score in results.items()
        }
        before.append(naive_ndcg(results, grades))
        after.append(naive_ndcg(mixed, grades))
        pairs = [(answers[query][product], grades[product]) for product in results if product in grades]
        wins = [(a > b) + (a == b) / 2 for a, g in pairs for b, h in pairs if g == 2 and h < 2]
        areas.append(sum(wins) / len(wins))
    assert found["before"] == pytest.approx(np.mean(before), abs=1e-9)
    assert found["after"] == pytest.approx(np.mean(after), abs=1e-9)
    assert found["gain"][0] == pytest.approx(np.mean(after) - np.mean(before), abs=1e-9)
    assert found["auc"] == pytest.approx(np.mean(areas), abs=1e-9)
    assert (found["queries"], found["pairs"]) == (8, 160)


def test_a_judge_that_knows_gains_and_one_that_is_wrong_loses() -> None:
    run, rows = shop(0)
    truth = {query: dict.fromkeys(found, 0.0) for query, found in run.items()}
    for query, product, grade in rows:
        if product in truth[query]:
            truth[query][product] = float(grade)
    right = measure_worth(run, truth, judged(rows))
    wrong = measure_worth(run, {q: {p: 2 - g for p, g in found.items()} for q, found in truth.items()}, judged(rows))
    assert right["gain"][1] > 0 > wrong["gain"][2] and (right["auc"], wrong["auc"]) == (1, 0)
    assert why_worthless(right, 0, certain=True) is None and why_worthless(wrong, -1, certain=True) is None
    line = why_worthless(wrong, 0, certain=True)
    assert line is not None and "20 best results of 8 queries" in line and "the interval must be above 0" in line
    assert "\n" not in line and f"{wrong['gain'][0]:+.3f}" in line


def test_a_gain_whose_interval_reaches_zero_is_refused() -> None:
    reaching, above = {"gain": [0.02, 0.0, 0.04], "queries": 9}, {"gain": [0.02, 0.001, 0.04], "queries": 9}
    assert why_worthless(reaching, 0, certain=True) is not None and why_worthless(above, 0, certain=True) is None
    assert why_worthless(reaching, 0, certain=False) is None
    assert "the gain must be above 0.02" in str(why_worthless(reaching, 0.02, certain=False))


def test_judgements_of_queries_that_were_not_searched_do_not_count() -> None:
    run, rows = shop(1)
    answers = {query: dict.fromkeys(found, 1.0) for query, found in run.items()}
    assert measure_worth(run, answers, judged(rows)) == measure_worth(run, answers, judged([*rows, ("other", "p1", 2)]))


@given(
    st.dictionaries(
        st.sampled_from([f"p{n}" for n in range(30)]),
        st.tuples(st.floats(0, 9), st.floats(0, 2)),
        min_size=1,
        max_size=9,
    )
)
def test_ranking_again_keeps_the_products_and_a_judge_without_an_opinion_changes_nothing(
    rows: dict[str, tuple[float, float]],
) -> None:
    run = {"q": {product: score for product, (score, _) in rows.items()}}
    answers = {"q": {product: grade for product, (_, grade) in rows.items()}}
    again = rank_again(run, answers)["q"]
    assert list(again) == list(run["q"]) and all(0 <= score <= 1 for score in again.values())
    for silent in ({}, {"q": {}}, {"q": dict.fromkeys(rows, 1.0)}):
        scores = rank_again(run, silent)["q"]
        for product in rows:
            for other in rows:
                if run["q"][product] > run["q"][other]:
                    assert scores[product] >= scores[other]


def test_a_product_without_a_grade_counts_as_the_mean_of_its_query() -> None:
    run = {"q": {"a": 0.0, "b": 0.0, "c": 0.0}}
    assert rank_again(run, {"q": {"a": 2.0, "b": 1.0}}) == {"q": {"a": 0.5, "b": 0.0, "c": 0.25}}


def test_the_best_results_of_a_long_run() -> None:
    run = {"q": {f"p{n}": float(n % 25) for n in range(50)}}
    best = best_results(run)["q"]
    assert len(best) == BEST and min(best.values()) == 15 and list(best)[:2] == ["p24", "p49"]


def test_expected_grades_by_a_loop() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (30, 3))
    for temperature in (0.5, 1.0, 3.0):
        odds = [[math.exp(value / temperature) for value in row] for row in logits.tolist()]
        expected = [(row[1] + 2 * row[2]) / sum(row) for row in odds]
        assert np.allclose(expected_grades(logits, temperature), expected)
    assert np.isnan(expected_grades(np.full((1, 3), np.nan))).all()
