"""The tables that the encoders of Mine and Refine learn from, split into queries for training and validation."""

from dataclasses import dataclass, replace
from typing import Self

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from raylevance.artifacts import Artifact, Store
from raylevance.config import Settings
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText, normalised_query
from raylevance.demo.judgements import grade_catalogue
from raylevance.demo.settings import DemoSettings
from raylevance.demo.shop import open_shop
from raylevance.errors import UsageError
from raylevance.training.tasks.contrastive.ranking import RankingEvaluation
from workloads.run import Run
from workloads.steps.encoder_training import Trainer

RULE_GRADED = 300
"""Validation queries for which the rule of the demo shop grades every product (our choice).

Each evaluation encodes the products that are relevant to any of them, which are most of the catalogue: 18,500 of 20,000
in the learning curves. Their grades take memory too, so this is for shops of such a size.
"""


class SyntheticSource(Settings):
    """Synthetic queries among the training queries."""

    tables: str | None = None
    """tables/NAME[@VERSION], as the recipe synthetic-queries publishes them; null for none."""
    share: float = Field(0.05, ge=0, lt=1)
    """The largest share of synthetic queries among all training queries. The paper says 'low'; 5 % is our choice."""

    def check(self, store: Store) -> None:
        """Raise `UsageError` when `tables` are not tables of judged queries."""
        if self.tables is None:
            return
        check_has_queries(store, "synthetic.tables", self.tables)
        if store.get(self.tables).metrics.get("judge", "") is None:
            raise UsageError(f"synthetic.tables={self.tables}: nobody judged its pairs; set warmup.synthetic instead")


def check_has_queries(store: Store, setting: str, tables: str) -> None:
    """Raise `UsageError` when the `tables` that a `setting` names have no judged queries."""
    folder = store.path(store.get(tables).ref)
    if not all((folder / table).is_dir() for table in ("queries", "judgements")):
        raise UsageError(f"{setting}={tables}: has no judged queries; name tables of synthetic-queries")


@dataclass(frozen=True)
class RetrievalData:
    """The data that every stage reads: the tables, the training queries and the validation queries."""

    run: Run
    tables: Artifact
    judged: JudgedTables
    """All judged queries of `tables`."""
    human_train: JudgedTables
    """The training queries of `judged`, without those of validation."""
    train: JudgedTables
    """The queries that the stages learn from: those of `human_train`, or as many as are asked for, with synthetic
    ones."""
    validation: JudgedTables
    """The queries that pick the best step of a training."""
    synthetic: tuple[Artifact, ...]
    """The tables that synthetic queries come from."""
    text: ProductText
    trainer: Trainer
    shop: DemoSettings | None = None
    """The demo shop whose rule grades what validation queries rank; with None only what is judged counts."""

    @classmethod
    def split(
        cls,
        run: Run,
        tables: Artifact,
        judged: JudgedTables,
        *,
        validation_fraction: float,
        most_queries: int | None = None,
        synthetic: SyntheticSource,
        text: ProductText,
        trainer: Trainer,
    ) -> Self:
        """Split the training queries of `judged` and add synthetic queries to those that are learned from.

        Of the training queries at most `most_queries` are learned from, drawn by hash; None takes all.
        Validation queries are the validation split of the data where it has one, otherwise `validation_fraction` of the
        training queries.
        """
        judged.report_unknown_locales()
        human_train, validation = judged.train_and_validation(validation_fraction, trainer.seed)
        train, sources = human_train, tuple[Artifact, ...]()
        if most_queries is not None:
            train = human_train.first_queries(most_queries, trainer.seed)
        if synthetic.tables is not None:
            source = run.store.get(synthetic.tables)
            train = add_synthetic_queries(train, judged, source, run.store, synthetic.share, trainer.seed)
            sources = (source,)
        return cls(
            run=run,
            tables=tables,
            judged=judged,
            human_train=human_train,
            train=train,
            validation=validation,
            synthetic=sources,
            text=text,
            trainer=trainer,
        )

    def evaluation(self) -> RankingEvaluation:
        """Return what picks the best step: nDCG@10 of validation queries, with a `shop` of `RULE_GRADED` of them."""
        if self.shop is None:
            return RankingEvaluation.of(self.validation, self.text)
        some = self.validation.first_queries(RULE_GRADED, self.trainer.seed)
        graded = grade_catalogue(open_shop(self.shop), some.queries["query_id"].combine_chunks())
        return RankingEvaluation.of(replace(some, judgements=graded), self.text)

    def evaluation_settings(self) -> dict[str, str]:
        """Return what `evaluation` measures as a setting of a step that trains, where it is not what is judged."""
        return {} if self.shop is None else {"evaluation": f"{RULE_GRADED} queries, every product graded by the rule"}


def add_synthetic_queries(
    train: JudgedTables, judged: JudgedTables, source: Artifact, store: Store, share: float, seed: int
) -> JudgedTables:
    """Add queries of `source` to `train`, so that they are at most `share` of its queries.

    A synthetic query with the same text as a judged query outside `train` is left out. Raises `UsageError` when
    `source` judges none of the products.
    """
    folder = store.path(source.ref)
    queries, judgements = (pq.read_table(folder / name) for name in ("queries", "judgements"))
    if not pc.any(pc.is_in(judgements["product_id"], judged.products["product_id"].combine_chunks())).as_py():
        raise UsageError(f"synthetic.tables={source.ref}: none of its judgements is about a product of these tables")
    held_out = judged.queries.filter(pc.is_in(judged.queries["query_id"], judged.query_ids_outside(train)))
    held_out_texts = normalised_query(held_out["query"]).combine_chunks()
    queries = queries.filter(pc.invert(pc.is_in(normalised_query(queries["query"]), held_out_texts)))
    return train.with_queries_from(JudgedTables(judged.products, queries, judgements), share, seed)
