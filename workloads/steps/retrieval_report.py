"""Report the baselines and every stage of Mine and Refine on the test queries, with intervals."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.data.text import baseline_text
from raylevance.evaluation.html_report import HtmlReport, render_html
from raylevance.evaluation.intervals import bootstrap_mean, paired_difference
from raylevance.evaluation.margins import OVERLAP_THRESHOLD, query_margins, word_overlap
from raylevance.evaluation.ranking_metrics import METRICS, RankedRun, evaluate_run, read_run, write_qrels, write_run
from raylevance.index.filters import Filters
from raylevance.index.products import ProductIndex
from raylevance.index.ranking import Mode
from raylevance.index.vectors import IndexSettings, VectorIndex
from raylevance.inference.embeddings import embed_items
from raylevance.inference.encoder import NamedEncoder, backbone_digest
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.encoding import encode_texts
from raylevance.models.encoder import Vectors
from workloads.readable import with_interval
from workloads.run import Run
from workloads.steps.indexing import pair_scores
from workloads.steps.mining import summary as mining_summary
from workloads.steps.report_outcome import ReportOutcome
from workloads.steps.retrieval_data import RetrievalData
from workloads.steps.systems import DEPTH, REPORTED, as_run, choose, rank_baselines, rank_dense, summarise

BASELINES = ("random", "bm25", "zero_shot")
LAST = "stage 2"
AGAINST = ("zero_shot", "bm25")
"""The systems that the table of a report compares every other with; `minus` in its JSON has the stages as well."""
STAGES = ("warm-up", "stage 1")
MODES: dict[str, Mode] = {"bm25f": "lexical", LAST: "dense", "hybrid": "hybrid"}
"""The modes of a search that a report compares, by their name in it."""


class RetrievalOutcome(ReportOutcome):
    """The final report of a run of mine-and-refine or cross-validation."""

    def as_json(self) -> dict[str, Any]:
        """Return the place of the report, the references of all artifacts, and the figures of the report."""
        return {"report": str(self._page()), **super().as_json()}

    def as_table(self) -> Table:
        """Return one row for each system: means with 95% intervals, and differences in nDCG@10 to `AGAINST`."""
        metrics = self.report.metrics
        title = f"{metrics['queries']} queries of {metrics['data']}, {metrics['products']} products ranked"
        differences = [f"ndcg@10 minus {baseline}" for baseline in AGAINST]
        table = Table("", *REPORTED, *differences, box=None, pad_edge=False, title=title, title_justify="left")
        for system, values in metrics["systems"].items():
            cells = [with_interval([values[metric], *values["ci95"][metric]]) for metric in REPORTED]
            changes = [with_interval(values["minus"][name]) if name != system else "" for name in AGAINST]
            table.add_row(system, *cells, *changes)
        mined = metrics.get("mining")
        chosen = [best_line(metrics["best"])] if "best" in metrics else []
        lines = [*([mining_summary(mined)] if mined else []), *chosen, f"report: {self._page()}"]
        table.caption, table.caption_justify = "\n".join(lines), "left"
        return table

    def _page(self) -> Path:
        folder = self.run.store.path(self.report.ref)
        page = folder / "report.html"
        return page if page.exists() else folder


def baselines_step(data: RetrievalData, backbone: str) -> Artifact:
    """Return `report/baselines`: TREC runs of random, BM25 and the untrained backbone on the test queries."""

    def build(draft: Draft) -> None:
        test = data.judged.split(TEST)
        runs = rank_baselines(test, data.trainer.seed)
        runs["zero_shot"], _ = measure_encoder(data.run.store, test, load_encoder(data.run.store, backbone))
        write_runs(draft.path, runs)
        draft.metrics |= summarise(runs, test.judgements)

    settings = {"backbone": backbone_digest(backbone), "metrics": METRICS}
    return data.run.step("report/baselines", build, settings=settings, inputs=[data.tables], seed=data.trainer.seed)


def report_step(
    data: RetrievalData, baselines: Artifact, encoders: Mapping[str, Artifact], index: Artifact
) -> Artifact:
    """Return `report/mine-and-refine`: all systems on the test queries, as JSON, TREC runs and one HTML page.

    `encoders` are those of the earlier stages, by their name in the report; the encoder of the last stage comes with
    the index. The last system is the mode of the index that is best on the validation queries.
    """
    run, seed = data.run, data.trainer.seed

    def build(draft: Draft) -> None:
        test = data.judged.split(TEST)
        folder = run.store.path(baselines.ref)
        runs: dict[str, RankedRun] = {name: read_run(folder / f"{name}.run") for name in BASELINES}
        last = load_encoder(run.store, encoder_of(index))
        cosines = {"zero_shot": measure_encoder(run.store, test, load_encoder(run.store, last.backbone))[1]}
        for name, encoder in encoders.items():
            runs[name], cosines[name] = measure_encoder(run.store, test, load_encoder(run.store, encoder.ref))
        index_runs, cosines[LAST] = measure_index(run, index, test)
        best = best_mode(run, index, data.validation)
        runs |= {name: index_runs[name] for name in sorted(index_runs, key=best["system"].__eq__)}
        write_runs(draft.path, runs)
        write_qrels(draft.path / "qrels", test.judgements)
        draft.metrics |= describe(data.tables, test, runs, seed) | {"margins": measure_margins(test, cosines, seed)}
        draft.metrics |= {"mining": mining_of(run.store, index), "best": best}
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")
        (draft.path / "report.html").write_text(render_html(page(index, test, runs, cosines, draft.metrics)), "utf-8")

    inputs = [data.tables, baselines, *encoders.values(), index]
    return run.step("report/mine-and-refine", build, settings={"metrics": METRICS}, inputs=inputs, seed=seed)


def describe(tables: Artifact, judged: JudgedTables, runs: Mapping[str, RankedRun], seed: int) -> dict[str, Any]:
    """Return the metrics of a report: what was ranked, and the figures of every system."""
    return {
        "data": tables.name.partition("/")[2],
        "queries": judged.queries.num_rows,
        "products": judged.products.num_rows,
        "seed": seed,
        "systems": compare(runs, judged),
        **by_locale(runs, judged),
    }


def by_locale(runs: Mapping[str, RankedRun], judged: JudgedTables) -> dict[str, Any]:
    """Return, under `locales`, the figures of the queries of each locale; nothing where there is one locale."""
    locale_of = dict(zip(*(judged.queries[name].to_pylist() for name in ("query_id", "locale")), strict=True))
    of_rows = pa.array([locale_of[query] for query in judged.judgements["query_id"].to_pylist()], pa.string())
    locales = {}
    for locale in judged.locales():
        judgements = judged.judgements.filter(pc.equal(of_rows, locale))
        if judgements.num_rows:
            queries = pc.count_distinct(judgements["query_id"]).as_py()
            locales[locale] = {"queries": queries, "systems": summarise(runs, judgements)}
    return {"locales": locales} if locales else {}


def page(
    index: Artifact,
    test: JudgedTables,
    runs: Mapping[str, RankedRun],
    cosines: Mapping[str, Vectors],
    metrics: Mapping[str, Any],
) -> HtmlReport:
    """Return the HTML page of the report; `cosines` are those of the judged test pairs, by encoder."""
    return HtmlReport(
        title="Mine and Refine",
        runs=runs,
        baseline=AGAINST[0],
        candidate=LAST,
        queries=test.queries,
        judgements=test.judgements,
        products=test.products,
        scores=cosines,
        grades=test.judgements["grade"].to_numpy(),
        summary=metrics["systems"],
        margins=metrics["margins"],
        facts={
            "data": f"{metrics['data']}, {metrics['queries']} test queries, {metrics['products']} products ranked",
            "seed": str(metrics["seed"]),
            "index": index.ref,
            **({"what was mined": mining_summary(metrics["mining"])} if metrics["mining"] else {}),
        },
    )


def measure_encoder(store: Store, test: JudgedTables, encoder: NamedEncoder) -> tuple[RankedRun, Vectors]:
    """Return the run of the encoder over the whole catalogue, by exact search, and the cosines of the judged pairs."""
    vectors = embed_items(store, encoder, encoder.item_texts(test.products))
    products = VectorIndex.build(vectors, IndexSettings(kind="exact"))
    queries = encode_texts(encoder.path, test.queries["query"].to_pylist(), "query")
    return as_run(test, *rank_dense(test, queries, products)), pair_scores(test, queries, products)


def measure_index(run: Run, index: Artifact, test: JudgedTables) -> tuple[dict[str, RankedRun], Vectors]:
    """Return the run of each of `MODES` as the index answers it, because that is what is served, and pairs' cosines."""
    products = ProductIndex.load(run.store.path(index.ref))
    texts = test.queries["query"].to_pylist()
    vectors = encode_texts(load_encoder(run.store, encoder_of(index)).path, texts, "query")
    ids, known = test.queries["query_id"].to_pylist(), test.locales()
    locales = [locale if locale in known else None for locale in test.queries["locale"].to_pylist()]
    runs: dict[str, dict[str, Mapping[str, float]]] = {name: {query: {} for query in ids} for name in MODES}
    for locale in dict.fromkeys(locales):
        places = [place for place, other in enumerate(locales) if other == locale]
        asked = [texts[place] for place in places]
        for name, mode in MODES.items():
            found = products.search(asked, vectors[places], DEPTH, mode, Filters(locale=locale))
            runs[name] |= {
                ids[place]: {hit.product_id: hit.score for hit in hits}
                for place, hits in zip(places, found, strict=True)
            }
    return dict(runs), pair_scores(test, vectors, products.vectors)


def best_mode(run: Run, index: Artifact, validation: JudgedTables) -> dict[str, Any]:
    """Return which of `MODES` ranks the `validation` queries best, as `choose` says, and nDCG@10 of each.

    A search is hybrid by default, so hybrid is kept unless another mode is better by more than a standard error.
    """
    runs, _ = measure_index(run, index, validation)
    names = sorted(MODES, key=lambda name: name != "hybrid")
    values = np.stack([evaluate_run(runs[name], validation.judgements, ["ndcg@10"])["ndcg@10"] for name in names])
    system = names[choose(values)]
    means = dict(zip(names, values.mean(axis=1).tolist(), strict=True))
    return {"system": system, "mode": MODES[system], "validation": means, "queries": values.shape[1]}


def best_line(best: Mapping[str, Any]) -> str:
    """Say which mode `best_mode` found best, and how to ask for it where a search has another by default."""
    values = ", ".join(f"{name} {value:.3f}" for name, value in best["validation"].items())
    measured = f"on the {best['queries']} validation queries (ndcg@10: {values})"
    if best["mode"] == "hybrid":
        return f"last row: hybrid; {measured} no mode is better than it by more than a standard error"
    better = f"better than hybrid by more than a standard error {measured}"
    return f'last row: {best["system"]}, {better}; a search answers so with "mode": "{best["mode"]}"'


def measure_margins(test: JudgedTables, cosines: Mapping[str, Vectors], seed: int) -> dict[str, Any]:
    """Return the margins between grades (mean, low, high) by encoder, of all judged pairs and of overlapping ones.

    Overlapping pairs are those whose query and product share enough words.
    """
    grades = test.judgements["grade"].to_numpy()
    names = test.judgements["query_id"].to_pylist()
    queries = dict(zip(*(test.queries[name].to_pylist() for name in ("query_id", "query")), strict=True))
    products = dict(zip(test.products["product_id"].to_pylist(), baseline_text(test.products), strict=True))
    texts = [products[product] for product in test.judgements["product_id"].to_pylist()]
    overlapping = word_overlap([queries[name] for name in names], texts) >= OVERLAP_THRESHOLD
    found: dict[str, Any] = {}
    for encoder, scores in cosines.items():
        found[encoder] = {}
        for pairs, kept in (("all", np.ones(len(names), bool)), ("overlapping", overlapping)):
            values = query_margins(
                scores[kept], grades[kept], [name for name, keep in zip(names, kept, strict=True) if keep]
            )
            found[encoder][pairs] = {
                margin: [*bootstrap_mean(each, seed)] for margin, each in values.items() if len(each)
            } | {"queries": len(values["average"])}
    return found


def encoder_of(index: Artifact) -> str:
    """Return the reference of the encoder that made the index."""
    return next(parent for parent in index.parents if parent.startswith("encoder/"))


def mining_of(store: Store, index: Artifact) -> dict[str, Any] | None:
    """Return the metrics of the last mining for the encoder of the index; None for an encoder without mined pairs."""
    return mining_metrics(store, store.get(encoder_of(index)))


def mining_metrics(store: Store, encoder: Artifact) -> dict[str, Any] | None:
    """Return the metrics of the last mining for the encoder; None for an encoder without mined pairs."""
    mined = [parent for parent in encoder.parents if parent.startswith("pairs/")]
    return store.get(mined[-1]).metrics if mined else None


def compare(runs: Mapping[str, RankedRun], test: JudgedTables) -> dict[str, Any]:
    """Return what `summarise` returns, and under `minus` the paired differences in nDCG@10 to `AGAINST` and `STAGES`.

    A difference is mean, low, high. The warm-up, trained by in-batch InfoNCE, is the baseline of that loss as well.
    """
    summary = summarise(runs, test.judgements)
    values = {system: evaluate_run(run, test.judgements, ["ndcg@10"])["ndcg@10"] for system, run in runs.items()}
    others = [*AGAINST, *(stage for stage in STAGES if stage in runs)]
    for system in runs:
        summary[system]["minus"] = {name: list(paired_difference(values[system], values[name])) for name in others}
    return summary


def write_runs(folder: Path, runs: Mapping[str, RankedRun]) -> None:
    """Write each run as a TREC file named by its system."""
    for name, run in runs.items():
        write_run(folder / f"{name.replace(' ', '')}.run", run, name.replace(" ", ""))
