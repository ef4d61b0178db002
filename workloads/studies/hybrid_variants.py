"""Variants of a hybrid search: what they are, how each ranks judged queries, and which to choose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.config import Settings
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import field_texts
from raylevance.evaluation.ranking_metrics import evaluate_run
from raylevance.index.fusion import FusionSettings, Ranking
from raylevance.index.lexical import LexicalIndex
from raylevance.index.lexical_fields import FieldWeights, LexicalSettings
from raylevance.index.shards import VectorSearch
from raylevance.models.encoder import Vectors
from workloads.steps.systems import as_run, choose, rank_fused

METRIC = "ndcg@10"
DENSE_WEIGHTS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.0, 1.0)
"""The weights of the dense side that are compared; the first wins among equals. At 0 and 1 one side ranks alone."""

FIELDS_ALIKE = LexicalSettings(fields=FieldWeights(**dict.fromkeys(FieldWeights.model_fields, 1.0)), k1=1.5, b=0.75)
"""BM25F whose fields all count the same, with the k1 and b of the BM25 baseline."""

Values = npt.NDArray[np.float64]


class Variant(Settings):
    """A hybrid search: how its words are weighed and how both sides are fused."""

    lexical: LexicalSettings
    fusion: FusionSettings


def families(lexical: LexicalSettings) -> dict[str, list[Variant]]:
    """Return the variants that are compared, by what they have in common; those of a family differ in dense weight.

    The first are the defaults.

    `lexical` are the weights of the fields in all families but the one whose fields all count the same.
    """

    def weighed(words: LexicalSettings, **fusion: object) -> list[Variant]:
        made = [FusionSettings.model_validate({**fusion, "dense_weight": weight}) for weight in DENSE_WEIGHTS]
        return [Variant(lexical=words, fusion=each) for each in made]

    return {
        "standardised, feedback, categories, excluded words": weighed(lexical),
        "standardised, feedback, categories": weighed(lexical, excluded_weight=0),
        "standardised, feedback, excluded words": weighed(lexical, category_weight=0),
        "standardised, feedback": weighed(lexical, excluded_weight=0, category_weight=0),
        "standardised": weighed(lexical, excluded_weight=0, category_weight=0, feedback=0),
        "min-max": weighed(lexical, method="weighted"),
        "min-max, fields alike": weighed(FIELDS_ALIKE, method="weighted"),
        "reciprocal rank": [Variant(lexical=lexical, fusion=FusionSettings(method="reciprocal_rank"))],
    }


@dataclass
class VariantRanker:
    """Ranks the products of a catalogue by variants of its hybrid search. BM25F of each weighing is indexed once."""

    products: pa.Table
    _indexed: dict[LexicalSettings, LexicalIndex] = field(default_factory=dict)

    def lexical(self, settings: LexicalSettings) -> LexicalIndex:
        """Return the index of the words of the products under `settings`."""
        if settings not in self._indexed:
            self._indexed[settings] = LexicalIndex.build_fields(field_texts(self.products), settings)
        return self._indexed[settings]

    def rank(self, judged: JudgedTables, vectors: VectorSearch, queries: Vectors, variant: Variant) -> Ranking:
        """Return what `rank_fused` returns for the words and the fusion of `variant`."""
        return rank_fused(judged, vectors, self.lexical(variant.lexical), queries, variant.fusion)

    def measure(
        self, judged: JudgedTables, vectors: VectorSearch, queries: Vectors, variants: Sequence[Variant]
    ) -> Values:
        """Return nDCG@10 of each variant for each judged query, float64 [variants, m], as `ndcg` orders them."""
        return np.stack([ndcg(judged, self.rank(judged, vectors, queries, variant)) for variant in variants])


def ndcg(judged: JudgedTables, ranking: Ranking) -> Values:
    """Return nDCG@10 of `ranking` for each judged query, float64 [m], in the order of their first judgement."""
    return evaluate_run(as_run(judged, *ranking), judged.judgements, [METRIC])[METRIC]


def choose_family(measured: Mapping[str, Values], queries: npt.NDArray[np.bool_] | slice = slice(None)) -> str:
    """Return the family whose chosen variant has the highest mean over `queries`, the first among equals."""

    def mean(name: str) -> float:
        values = measured[name]
        return round(float(values[choose(values, queries), queries].mean()), 9)

    return max(measured, key=mean)


def held_out(measured: Mapping[str, Values], folds: npt.NDArray[np.int64]) -> Values:
    """Return for each query [m] the value of the variant that is chosen among `measured` on the other folds.

    `measured` has the values float64 [variants, m] of each family; `folds` int64 [m] has the fold of each query.
    """
    found = np.empty(len(folds))
    for fold in np.unique(folds):
        tested = folds == fold
        values = measured[choose_family(measured, ~tested)]
        found[tested] = values[choose(values, ~tested), tested]
    return found
