"""The tables that the encoders of Mine and Refine learn from, split into queries for training and validation."""

from dataclasses import dataclass
from typing import Self

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from raylevance.artifacts import Artifact, Store
from raylevance.config import Settings
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText, normalised_query
from raylevance.errors import UsageError
from workloads.run import Run
from workloads.steps.encoder_training import Trainer


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
        folder = store.path(store.get(self.tables).ref)
        if not all((folder / table).is_dir() for table in ("queries", "judgements")):
            raise UsageError(f"synthetic.tables={self.tables}: has no judged queries; name tables of synthetic-queries")


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
