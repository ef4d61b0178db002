"""`raylevance tune hybrid`: how BM25 and vectors are best joined, on judged queries outside the test split.

    raylevance tune hybrid [--set index=index/stage2] [--set folds=5]

The families of `hybrid_variants.py` are compared on the training queries in cross-validation: the dense weight of a
family is chosen on the other folds, so its figure is of queries that did not choose it. Equal weights are kept unless
another one is better by more than a standard error. The best on all of these queries is published as
`index/<name>-tuned`, which has the vectors and the encoder of the index; the row `tuned` is the held-out figure of
this choice. Publishes `tuning/hybrid`, with the picture `hybrid.svg`, and the index.

An encoder that learned from these queries ranks them better than others, and would get too much weight. The variants
are then compared with the vectors of the encoder that it was trained from, such as the warm-up.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
from pydantic import Field, NonNegativeInt
from rich.table import Table

from raylevance.artifacts import Artifact, Draft, Store, parse_reference
from raylevance.config import Settings
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.data.splits import assign_folds
from raylevance.data.text import baseline_text, full_text
from raylevance.errors import RaylevanceError
from raylevance.evaluation.intervals import bootstrap_mean, paired_difference
from raylevance.index.fusion import FusionSettings
from raylevance.index.lexical_fields import LexicalSettings
from raylevance.index.products import ProductIndex
from raylevance.index.shards import VectorSearch
from raylevance.index.vectors import IndexSettings, VectorIndex
from raylevance.inference.embeddings import embed_items
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.search import pin
from raylevance.progress import status
from workloads.readable import with_interval
from workloads.run import Run
from workloads.steps.judged_training import JUDGED_QUERIES
from workloads.steps.systems import choose, rank_dense, rank_fused, rank_lexical
from workloads.studies.hybrid_plot import PICTURE, save_variants
from workloads.studies.hybrid_variants import (
    METRIC,
    Values,
    Variant,
    VariantRanker,
    choose_family,
    families,
    held_out,
    ndcg,
)

BASELINE = "BM25, title, brand and colour"
OWN_FUSION = "the index's own fusion"
TUNED = "tuned"
MINIMUM_QUERIES = 20
"""With fewer judged queries, an interval of nDCG@10 is wider than any difference between variants seen so far."""


class HybridTuneSettings(Settings):
    """The index to tune, and the number of parts of the training queries."""

    index: str = "index/stage2"
    """The index to tune, as index/NAME[@VERSION]."""
    folds: int = Field(5, ge=2)
    """The number of parts of the queries; the dense weight for a part is chosen on the others."""
    seed: NonNegativeInt = 0


@dataclass(frozen=True)
class HybridTuneOutcome:
    """The artifacts `tuning/hybrid` and `index/<name>-tuned`."""

    store: Store
    report: Artifact
    index: Artifact

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        picture = self.store.path(self.report.ref) / PICTURE
        return {**self.report.metrics, "ref": self.report.ref, "index": self.index.ref, "picture": str(picture)}

    def as_table(self) -> Table:
        """Return one row for each system and family: held-out nDCG@10 with its interval, and paired differences."""
        metrics = self.report.metrics
        columns = ["", "dense weight", f"{METRIC}, held out", "minus BM25", f"minus {OWN_FUSION}"]
        title = f"{metrics['queries']} queries of {metrics['data']} outside the test split, {metrics['folds']} folds"
        table = Table(*columns, box=None, pad_edge=False, title=title, title_justify="left")
        for name, row in metrics["systems"].items():
            weight = "" if row["dense_weight"] is None else f"{row['dense_weight']:g}"
            table.add_row(name, weight, *(with_interval(row[part]) for part in ("value", "minus_bm25", "minus_index")))
        name = self.index.name
        lines = [
            f"compared with the vectors of {metrics['vectors']}",
            f"published: {metrics['chosen']}, as {self.index.ref}",
            f"serve it: raylevance serve --index {name}",
            f"picture: {self.store.path(self.report.ref) / PICTURE}",
        ]
        table.caption, table.caption_justify = "\n".join(lines), "left"
        return table


def tune_hybrid(settings: HybridTuneSettings, store: str) -> HybridTuneOutcome:
    """Compare the variants on the training queries of the index's tables, and publish the best.

    Raises `UsageError` if `settings.index` names no index, and `RaylevanceError` if the store lacks it or if there are
    fewer than `MINIMUM_QUERIES` judged queries outside the test split.
    """
    opened = Store(store)
    versions = pin(opened, settings.index)
    with Run(opened, cluster=nullcontext) as run:
        index, tables, encoder = (opened.get(ref) for ref in (versions.index, versions.tables, versions.encoder))
        judged = training_queries(opened, tables)
        words = LexicalSettings.model_validate(index.settings.get("lexical", {}))

        def build_report(draft: Draft) -> None:
            ranker = VariantRanker(judged.products)
            draft.metrics |= compare(opened, index, encoder, judged, ranker, words, settings)
            draft.metrics["data"] = tables.name.partition("/")[2]
            save_variants(draft.path / PICTURE, draft.metrics["systems"])

        compared = settings.model_dump(exclude={"index"}) | {"words": words, "families": families(words)}
        report = run.step("tuning/hybrid", build_report, settings=compared, inputs=[index, tables, encoder])
        keep = report.metrics["chosen"] == OWN_FUSION
        chosen = None if keep else Variant.model_validate(report.metrics["variant"])
        tuned = publish_index(run, index, tables, encoder, chosen)
    return HybridTuneOutcome(opened, report, tuned)


def training_queries(store: Store, tables: Artifact) -> JudgedTables:
    """Return the judged queries of `tables` that are not for testing, with all products.

    Raises `RaylevanceError` if they are fewer than `MINIMUM_QUERIES`.
    """
    judged = JudgedTables.open(store.path(tables.ref))
    kept = judged.judgements.filter(pc.not_equal(judged.judgements["split"], TEST))
    judged = replace(judged, judgements=kept).without_unjudged_queries()
    if judged.queries.num_rows < MINIMUM_QUERIES:
        raise RaylevanceError(
            f"{tables.ref}: {judged.queries.num_rows} judged queries outside the test split are too few to compare "
            f"variants on; judge {MINIMUM_QUERIES} or more, or keep the defaults of index.fusion"
        )
    return judged


def compare(
    store: Store,
    index: Artifact,
    encoder: Artifact,
    judged: JudgedTables,
    ranker: VariantRanker,
    words: LexicalSettings,
    settings: HybridTuneSettings,
) -> dict[str, Any]:
    """Return the figures of the baselines, of each family and of the choice among all, on the queries of `judged`."""
    loaded = ProductIndex.load(store.path(index.ref))
    compared = unjudged_encoder(store, encoder)
    named = load_encoder(store, compared.ref)
    vectors: VectorSearch = loaded.vectors
    if compared.ref != encoder.ref:
        status(f"{encoder.ref} learned from judged queries; variants are compared with the vectors of {compared.ref}")
        vectors = VectorIndex.build(embed_items(store, named, named.item_texts(judged.products)), IndexSettings())
        if loaded.fusion.method == "graded":
            raise RaylevanceError(
                f"{index.ref}: its fusion grades cosines of {encoder.ref}, which learned from the queries of this "
                "comparison; make the index with another index.fusion.method"
            )
    queries = named.encode_queries(judged.queries["query"].to_pylist())
    folds = assign_folds(judged.queries, settings.folds, settings.seed)[_by_first_judgement(judged)]
    tried = families(words)
    measured = {name: ranker.measure(judged, vectors, queries, variants) for name, variants in tried.items()}
    fixed = {
        BASELINE: ndcg(judged, rank_lexical(judged, baseline_text(judged.products))),
        "BM25, all text": ndcg(judged, rank_lexical(judged, full_text(judged.products))),
        "BM25F": ranker.measure(judged, vectors, queries, [words_alone(words)])[0],
        "dense": ndcg(judged, rank_dense(judged, queries, vectors)),
        OWN_FUSION: ndcg(judged, rank_fused(judged, vectors, loaded.lexical, queries, loaded.fusion, loaded.bands)),
    }
    family = choose_family(measured)
    variant = tried[family][choose(measured[family])]
    values = fixed | {name: held_out({name: each}, folds) for name, each in measured.items()}
    values[TUNED] = held_out(measured, folds)
    weights = {name: tried[name][choose(each)].fusion.dense_weight for name, each in measured.items()}
    weights.pop("reciprocal rank")
    # Judged as other families are, but not held out: it may have been tuned on these queries.
    if choose(np.stack([measured[family][choose(measured[family])], fixed[OWN_FUSION]])):
        family, variant = OWN_FUSION, Variant(lexical=words, fusion=loaded.fusion)
    return {
        "vectors": compared.ref,
        "queries": judged.queries.num_rows,
        "folds": settings.folds,
        "systems": {name: _figures(values, name, weights.get(name), settings.seed) for name in values},
        "chosen": family,
        "variant": variant.model_dump(mode="json"),
    }


def words_alone(lexical: LexicalSettings) -> Variant:
    """Return the variant that ranks by BM25F and reads nothing else."""
    off = dict.fromkeys(("dense_weight", "feedback", "excluded_weight", "category_weight"), 0)
    return Variant(lexical=lexical, fusion=FusionSettings.model_validate(off))


def unjudged_encoder(store: Store, encoder: Artifact) -> Artifact:
    """Return `encoder`, or if it learned from judged queries, the nearest of those it was trained from that did not.

    Raises `RaylevanceError` if one of them is not in the store, or all learned from judged queries.
    """
    while JUDGED_QUERIES in encoder.settings:
        before = [parent for parent in encoder.parents if parent.startswith("encoder/")]
        if not before:
            raise RaylevanceError(f"{encoder.ref}: learned from judged queries, and has no encoder among its parents")
        encoder = store.get(before[0])
    return encoder


def publish_index(run: Run, index: Artifact, tables: Artifact, encoder: Artifact, variant: Variant | None) -> Artifact:
    """Return `index/<name>-tuned`: the vectors and grade bands of `index`, searched as `variant` says, or as it is."""

    def build(draft: Draft) -> None:
        tuned = ProductIndex.load(run.store.path(index.ref))
        if variant:
            products = JudgedTables.open(run.store.path(tables.ref)).products
            tuned = tuned.with_lexical(VariantRanker(products).lexical(variant.lexical), variant.fusion)
        tuned.save(draft.path)
        draft.metrics |= tuned.describe()

    name = parse_reference(index.ref)[0].removesuffix("-tuned")
    described = {**(dict(variant) if variant else {}), "vectors_of": index.ref}
    return run.step(f"{name}-tuned", build, settings=described, inputs=[tables, encoder])


def _by_first_judgement(judged: JudgedTables) -> Any:
    """Return the rows of the queries in the order of their first judgement, as `ndcg` has them."""
    row_of = {query: row for row, query in enumerate(judged.queries["query_id"].to_pylist())}
    return np.array([row_of[query] for query in dict.fromkeys(judged.judgements["query_id"].to_pylist())])


def _figures(values: dict[str, Values], name: str, weight: float | None, seed: int) -> dict[str, Any]:
    return {
        "value": list(bootstrap_mean(values[name], seed)),
        "minus_bm25": list(paired_difference(values[name], values[BASELINE], seed)),
        "minus_index": list(paired_difference(values[name], values[OWN_FUSION], seed)),
        "dense_weight": weight,
    }
