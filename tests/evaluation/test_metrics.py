"""Metrics equal naive formulas, also with ties, and intervals cover the true value as often as they should."""

import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from raylevance.errors import RaylevanceError
from raylevance.evaluation import intervals
from raylevance.evaluation.intervals import bootstrap_mean, bootstrap_means, paired_difference
from raylevance.evaluation.pair_metrics import best_threshold, evaluate_pairs
from raylevance.evaluation.ranking_metrics import METRICS, evaluate_run, read_run, write_qrels, write_run

ESCI_GRADES = {"E": 2, "S": 1, "C": 1, "I": 0}


def judgements(labels: dict[str, dict[str, str]]) -> pa.Table:
    rows = [(query, product, label) for query, judged in labels.items() for product, label in judged.items()]
    queries, products, names = zip(*rows, strict=True)
    grades = [ESCI_GRADES.get(name, int(name) if name.isdigit() else 0) for name in names]
    return pa.table({"query_id": queries, "product_id": products, "label": names, "grade": grades})


def naive_ndcg(ranked: list[str], gains: dict[str, float], cutoff: int = 10) -> float:
    def dcg(values: list[float]) -> float:
        return sum(value / math.log2(place + 2) for place, value in enumerate(values[:cutoff]))

    ideal = dcg(sorted(gains.values(), reverse=True))
    return dcg([gains.get(product, 0) for product in ranked]) / ideal if ideal else 0.0


def test_ndcg_and_recall_are_the_formulas() -> None:
    random = np.random.default_rng(0)
    labels, run = {}, {}
    for query in range(20):
        products = [f"p{number}" for number in range(40)]
        labels[str(query)] = {product: str(random.choice(list("ESCI"))) for product in products[:25]}
        run[str(query)] = {product: float(score) for product, score in zip(products, random.random(40), strict=True)}
    values = evaluate_run(run, judgements(labels))
    for place, (query, scores) in enumerate(run.items()):
        ranked = sorted(scores, key=lambda product: -scores[product])
        for metric, table in (
            ("ndcg@10", {"E": 3, "S": 2, "C": 1, "I": 0}),
            ("ndcg@10_official", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}),
        ):
            gains = {product: table[label] for product, label in labels[query].items()}
            assert values[metric][place] == pytest.approx(naive_ndcg(ranked, gains), abs=1e-6)
        relevant = {product for product, label in labels[query].items() if label in "ES"}
        assert values["recall@100"][place] == pytest.approx(1.0)
        assert values["precision@10"][place] == pytest.approx(len(relevant & set(ranked[:10])) / 10)
        first = next(rank for rank, product in enumerate(ranked, 1) if product in relevant)
        assert values["mrr@10"][place] == pytest.approx(1 / first if first <= 10 else 0)


def test_metrics_by_grade_are_those_of_the_paper() -> None:
    """Gains 1, 0.5 and 0 of grades 2, 1 and 0 at 10, 50 and 100; grades 2 and 1 are relevant (our reading)."""
    random = np.random.default_rng(4)
    labels, run = {}, {}
    for query in range(12):
        products = [f"p{number}" for number in range(150)]
        random.shuffle(products)
        labels[str(query)] = {product: str(random.choice(list("ESCI"), p=[0.1, 0.2, 0.1, 0.6])) for product in products}
        run[str(query)] = {product: float(random.random()) for product in products[: random.integers(5, 130)]}
    labels["none"], run["none"] = {"p0": "I"}, {"p0": 1.0}
    values = evaluate_run(run, judgements(labels))
    for place, (query, scores) in enumerate(run.items()):
        ranked = sorted(scores, key=lambda product: -scores[product])
        gains = {product: {"E": 1.0, "S": 0.5, "C": 0.5, "I": 0.0}[label] for product, label in labels[query].items()}
        for cutoff in (10, 50, 100):
            assert values[f"ndcg@{cutoff}_grades"][place] == pytest.approx(naive_ndcg(ranked, gains, cutoff), abs=1e-6)
            for suffix, letters in (("", "ES"), ("_grades", "ESC")):
                relevant = {product for product, label in labels[query].items() if label in letters}
                hits = len(relevant & set(ranked[:cutoff]))
                assert values[f"precision@{cutoff}{suffix}"][place] == pytest.approx(hits / cutoff)
                assert values[f"recall@{cutoff}{suffix}"][place] == pytest.approx(hits / max(1, len(relevant)))


def test_chosen_metrics_are_those_of_all() -> None:
    labels = judgements({"1": {"a": "E", "b": "S", "c": "C"}, "2": {"a": "I", "c": "E"}})
    run = {"1": {"c": 3.0, "b": 2.0, "a": 1.0}, "2": {"a": 2.0, "c": 1.0}}
    everything = evaluate_run(run, labels)
    assert tuple(everything) == METRICS
    for chosen in (["ndcg@10"], ["recall@50_grades", "mrr@10"]):
        found = evaluate_run(run, labels, chosen)
        assert list(found) == chosen and all((found[name] == everything[name]).all() for name in chosen)


def test_intervals_are_those_of_scipy_from_one_set_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the draws are made in parts, where all values are equal, and for one query."""
    random = np.random.default_rng(6)
    values = {"a": random.random(30), "b": random.normal(5, 2, 30), "same": np.full(30, 0.1)}
    expected = {"same": (0.1, 0.1, 0.1)}
    for name in ("a", "b"):
        interval = stats.bootstrap(
            (values[name],),
            np.mean,
            n_resamples=intervals.RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(3),
        ).confidence_interval
        expected[name] = (float(values[name].mean()), float(interval.low), float(interval.high))
    for at_once in (4_000_000, 1000):
        monkeypatch.setattr(intervals, "DRAWN_AT_ONCE", at_once)
        found = bootstrap_means(values, 3)
        assert list(found) == list(values)
        for name, estimate in found.items():
            assert estimate == pytest.approx(expected[name])
            assert estimate == pytest.approx(bootstrap_mean(values[name], 3), rel=1e-12)
    assert found["same"].low == found["same"].mean == found["same"].high
    alone = {name: each[:1] for name, each in values.items()}
    assert bootstrap_means(alone) == {name: (each[0],) * 3 for name, each in alone.items()}


def test_equal_scores_are_ranked_as_the_run_lists_them() -> None:
    labels = judgements({"q": {"a": "E", "z": "I"}})
    first = evaluate_run({"q": {"a": 1.0, "z": 1.0}}, labels)["mrr@10"]
    last = evaluate_run({"q": {"z": 1.0, "a": 1.0}}, labels)["mrr@10"]
    assert (first.tolist(), last.tolist()) == ([1.0], [0.5])


def test_a_query_without_a_ranking_or_a_relevant_product_scores_zero() -> None:
    values = evaluate_run({"1": {"a": 1.0}}, judgements({"1": {"a": "E"}, "2": {"a": "E"}, "3": {"a": "I"}}))
    assert values["ndcg@10"].tolist() == [1.0, 0.0, 0.0]


def test_other_labels_gain_their_grade() -> None:
    values = evaluate_run({"q": {"b": 2.0, "a": 1.0}}, judgements({"q": {"a": "2", "b": "1"}}))
    assert values["ndcg@10"][0] == pytest.approx(naive_ndcg(["b", "a"], {"a": 2, "b": 1}), abs=1e-6)


def test_a_grade_of_an_audit_counts_instead_of_the_label() -> None:
    audited = judgements({"q": {"a": "E", "b": "S"}})
    audited = audited.set_column(3, "grade", pa.array([0, 1])).append_column("previous_grade", pa.array([2, None]))
    values = evaluate_run({"q": {"a": 2.0, "b": 1.0}}, audited)
    assert values["ndcg@10"][0] == pytest.approx(naive_ndcg(["a", "b"], {"a": 0, "b": 2}), abs=1e-6)
    raised = judgements({"q": {"a": "I", "b": "S"}})
    raised = raised.set_column(3, "grade", pa.array([2, 1])).append_column("previous_grade", pa.array([0, None]))
    values = evaluate_run({"q": {"b": 2.0, "a": 1.0}}, raised)
    assert values["ndcg@10"][0] == pytest.approx(naive_ndcg(["b", "a"], {"a": 3, "b": 2}), abs=1e-6)


def test_trec_files_come_back(tmp_path: Path) -> None:
    run = {"q": {"a": 2.5, "b": 1.25}, "r": {"c": -1.0}}
    write_run(tmp_path / "x.run", run, "x")
    assert read_run(tmp_path / "x.run") == run
    assert (tmp_path / "x.run").read_text().splitlines()[0] == "q Q0 a 1 2.500000 x"
    write_qrels(tmp_path / "qrels", judgements({"q": {"a": "E", "b": "C"}}))
    assert (tmp_path / "qrels").read_text() == "q 0 a 3\nq 0 b 1\n"
    (tmp_path / "x.run").write_text("q Q0 a 1 much x\n")
    with pytest.raises(RaylevanceError, match=r"x\.run: line 1 is not a TREC run line"):
        read_run(tmp_path / "x.run")


def test_the_interval_covers_the_mean_it_was_drawn_from() -> None:
    random = np.random.default_rng(1)
    hits = 0
    for seed in range(60):
        estimate = bootstrap_mean(random.beta(2, 3, size=40), seed)
        hits += estimate.low <= 0.4 <= estimate.high
    assert 50 <= hits <= 60, "a 95% interval covers about 57 of 60"


def test_a_paired_difference_is_narrower_than_its_parts() -> None:
    random = np.random.default_rng(2)
    baseline = random.random(40)
    better = baseline + 0.05 + 0.01 * random.standard_normal(40)
    difference = paired_difference(better, baseline)
    alone = bootstrap_mean(better)
    assert difference.low > 0.04
    assert difference.high - difference.low < (alone.high - alone.low) / 5


def test_pair_metrics_are_the_formulas() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 200)
    scores = np.round(labels * 0.3 + random.random(200), 2)
    values = evaluate_pairs(scores, labels)
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > negative).sum() + 0.5 * (positive[:, None] == negative).sum()
    assert values["auc"] == pytest.approx(wins / (len(positive) * len(negative)))

    def f1(threshold: float) -> float:
        kept = scores >= threshold
        return 2 * (kept & (labels == 1)).sum() / (kept.sum() + labels.sum())

    assert values["f1"] == pytest.approx(max(map(f1, scores)))
    assert f1(values["f1_threshold"]) == pytest.approx(values["f1"])
    assert values["ks"] == pytest.approx(max(abs((positive >= t).mean() - (negative >= t).mean()) for t in scores))


def test_f1_is_that_of_a_threshold_chosen_on_other_pairs() -> None:
    """Scores without information have the F1 of that threshold, not the best of all thresholds on the pairs."""
    random = np.random.default_rng(5)
    labels, scores = random.integers(0, 2, (2, 60)), random.random((2, 60)).astype(np.float32)
    threshold = best_threshold(scores[0], labels[0])
    values = evaluate_pairs(scores[1], labels[1], threshold)
    positive, kept = labels[1] == 1, scores[1] >= threshold
    precision, recall = (kept & positive).sum() / kept.sum(), (kept & positive).sum() / positive.sum()
    assert values["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert values["f1_threshold"] == threshold
    best = evaluate_pairs(scores[1], labels[1])
    assert values["f1"] < best["f1"] and best["f1_threshold"] == best_threshold(scores[1], labels[1])
    assert {name: values[name] for name in ("auc", "ks")} == {name: best[name] for name in ("auc", "ks")}


def test_a_threshold_above_every_score_finds_nothing() -> None:
    assert evaluate_pairs(np.array([0.1, 0.2]), np.array([0, 1]), 0.5)["f1"] == 0


def test_grades_count_two_as_relevant() -> None:
    scores = np.array([0.9, 0.5, 0.1])
    assert evaluate_pairs(scores, np.array([2, 1, 0])) == evaluate_pairs(scores, np.array([1, 0, 0]))


@pytest.mark.parametrize(
    ("labels", "line"), [([1, 1, 1], "all of one class"), ([0, 1, 7], "expected 0 and 1, or grades")]
)
def test_labels_that_say_nothing_are_refused(labels: list[int], line: str) -> None:
    with pytest.raises(RaylevanceError, match=line):
        evaluate_pairs(np.array([0.1, 0.2, 0.3]), np.array(labels))


@pytest.mark.parametrize(
    ("name", "fault"),
    [("SKU 12", "contains white space"), ("12\u00a0", "contains white space"), ("a\nb", "contains"), ("", "is empty")],
)
def test_an_id_that_a_trec_file_can_not_hold(tmp_path: Path, name: str, fault: str) -> None:
    ids = [({name: {"a": 1.0}}, {name: {"a": "E"}}), ({"q": {name: 1.0}}, {"q": {name: "E"}})]
    for run, judged in ids:
        with pytest.raises(RaylevanceError, match=f"id {re.escape(repr(name))} {fault}"):
            write_run(tmp_path / "x.run", run, "x")
        with pytest.raises(RaylevanceError, match=f"qrels: id {re.escape(repr(name))} {fault}"):
            write_qrels(tmp_path / "qrels", judgements(judged))
    assert list(tmp_path.iterdir()) == []
