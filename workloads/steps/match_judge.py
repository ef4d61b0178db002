"""Fit the regression judge to judged queries, and measure it on each of them without having learned from it."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PositiveInt

from raylevance.artifacts import Artifact, Draft, Store, fingerprint
from raylevance.config import FolderOrName, Settings
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.splits import assign_folds
from raylevance.data.text import ProductText, normalised_query
from raylevance.evaluation.agreement import agreement_with_people
from raylevance.evaluation.ranking_metrics import RankedRun
from raylevance.index.fusion import FusionSettings
from raylevance.inference.embeddings import embed_items
from raylevance.inference.encoder import NamedEncoder, backbone_digest, backbone_path
from raylevance.inference.judge import MODEL_FOLDER, save_judge
from raylevance.judges.grade_decisions import fit_temperature
from raylevance.judges.match_regression import FEATURES, MatchRegression, Regression, out_of_fold
from raylevance.judges.settings import JudgeSettings
from raylevance.judges.worth import best_results, expected_grades, measure_worth
from raylevance.models.encoder import Encoder, EncoderSettings, read_encoder_settings
from raylevance.progress import progress_bar
from workloads.run import Run
from workloads.steps.systems import rank_hybrid

FOLDS = 10
"""The folds of queries by which the regression is measured (our choice)."""
OF_NO_FOLD = -1
"""The fold of further pairs: they are learned from in every fold, and not measured."""
OUT_OF_FOLD, WORTH = "out_of_fold", "worth"
"""The metrics of a judge artifact: its agreement with people on the queries that it learned from, and what it adds to a
hybrid search for them, each query graded by a fit without it."""
JUDGE_TEXT = ProductText(taxonomy_levels=4)
"""Title, brand, colour and category: more words of a product blur which of them it is (docs/decisions/0015)."""


class RegressionSettings(Settings):
    """The regression candidate: words, brand and category of query and text, and an encoder's vectors."""

    backbone: FolderOrName = "minilm"
    max_tokens: PositiveInt = 96
    """The tokens of a text that are read, or as many as the encoder reads where these are fewer."""


def match_judge_step(
    run: Run,
    name: str,
    tables: Artifact,
    judged: JudgedTables,
    settings: RegressionSettings,
    text: ProductText,
    seed: int,
    further: GradedPairs | None = None,
) -> Artifact:
    """Return the artifact `name`: the regression judge, fitted to the human judgements of `judged`, of `tables`.

    It also learns from the pairs `further`, of other queries. Nothing has to be held out to pick a step. Its agreement
    with people, its worth and its temperature are measured out of fold, on all queries of `judged`.
    """

    def build(draft: Draft) -> None:
        pairs = GradedPairs.from_tables(judged, text)
        grades = np.asarray(pairs.grades)
        folds = query_folds(pairs, seed)
        results = hybrid_results(run.store, judged, NamedEncoder(backbone_path(settings.backbone), None, None))
        asked = with_results(pairs, results, judged, text)
        own = len(asked.grades)
        asked = asked.joined(further) if further else asked
        own_limits = read_encoder_settings(backbone_path(settings.backbone))
        limit = min(settings.max_tokens, own_limits.max_item_tokens)
        reads = EncoderSettings(backbone=own_limits.backbone, max_item_tokens=limit)
        with progress_bar("judge: texts", "texts") as bar:
            fitted = MatchRegression.unfitted(Encoder.from_backbone(reads), text.compose(judged.products), bar.advance)
            features = fitted.features(asked.queries, asked.texts, bar.advance)
        row = np.arange(len(asked.grades))
        learned, measured = (row < len(grades)) | (row >= own), row < len(grades)
        fold_of = dict(zip(pairs.query_ids, folds.tolist(), strict=True))
        all_folds = np.array([fold_of.get(query, OF_NO_FOLD) for query in asked.query_ids])
        asked_grades = np.asarray(asked.grades)
        scores = out_of_fold(features, asked_grades, all_folds, fitted_to=learned)
        temperature = fit_temperature(scores[measured], grades)
        fitted.regression = Regression.fit(features[learned], asked_grades[learned])
        fitted.save(draft.path / MODEL_FOLDER)
        judge = JudgeSettings(backend="regression", regression=MODEL_FOLDER, text=text, temperature=temperature)
        save_judge(draft.path, judge)
        agreement = agreement_with_people(scores[measured].argmax(axis=1), grades, pairs.query_ids, seed)
        expected = grades_by_query(asked, expected_grades(scores, temperature), results)
        draft.metrics |= {
            "regression": fitted.regression.model_dump(),
            "temperature": temperature,
            OUT_OF_FOLD: agreement | {"queries": len(set(pairs.query_ids))},
            WORTH: measure_worth(results, expected, judged.judgements, seed),
        }

    described = {
        "backbone": backbone_digest(settings.backbone),
        "max_tokens": settings.max_tokens,
        "text": text,
        "folds": FOLDS,
        "features": FEATURES,
        "search": FusionSettings(),
        "queries": fingerprint(judged.queries["query_id"].to_pylist()),
    }
    if further:
        described["further"] = fingerprint(further.queries, further.texts, further.grades)
    return run.step(name, build, settings=described, inputs=[tables], seed=seed)


def hybrid_results(store: Store, judged: JudgedTables, encoder: NamedEncoder) -> RankedRun:
    """Return the best products of each query of `judged` by a hybrid search with `encoder`."""
    vectors = embed_items(store, encoder, encoder.item_texts(judged.products))
    return best_results(rank_hybrid(judged, encoder, vectors)["hybrid"])


def with_results(pairs: GradedPairs, results: RankedRun, judged: JudgedTables, text: ProductText) -> GradedPairs:
    """Return `pairs` followed by the pairs of `results` that are not among them, with grade 0."""
    known = set(zip(pairs.query_ids, pairs.product_ids, strict=True))
    new = [(query, product) for query, found in results.items() for product in found if (query, product) not in known]
    wanted = pc.is_in(judged.products["product_id"], pa.array(sorted({product for _, product in new}), pa.string()))
    products = judged.products.filter(wanted)
    texts = dict(zip(products["product_id"].to_pylist(), text.compose(products), strict=True))
    queries = dict(zip(*(judged.queries[name].to_pylist() for name in ("query_id", "query")), strict=True))
    rows = [(query, product, queries[query], texts[product], 0, "") for query, product in new]
    return pairs.joined(GradedPairs(*(list(column) for column in zip(*rows, strict=True)))) if rows else pairs


def grades_by_query(
    pairs: GradedPairs, expected: Iterable[float], results: RankedRun
) -> Mapping[str, Mapping[str, float]]:
    """Return the expected grades of the pairs that are in `results`, by query and product."""
    found: dict[str, dict[str, float]] = {}
    for query, product, grade in zip(pairs.query_ids, pairs.product_ids, expected, strict=True):
        if product in results.get(query, {}):
            found.setdefault(query, {})[product] = float(grade)
    return found


def joined_queries(train: JudgedTables, validation: JudgedTables) -> JudgedTables:
    """Return the queries and judgements of both, with the products."""
    both = (
        pa.concat_tables([getattr(part, name) for part in (train, validation)]) for name in ("queries", "judgements")
    )
    return JudgedTables(train.products, *both)


def query_folds(pairs: GradedPairs, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each pair, int64 [n]: `FOLDS` folds of queries, or as many as there are queries.

    Raises `RaylevanceError` for fewer than two queries.
    """
    queries = pa.table({"query": pairs.queries})
    distinct: Any = pc.count_distinct(normalised_query(queries["query"])).as_py()
    return assign_folds(queries, max(2, min(FOLDS, distinct)), seed)
