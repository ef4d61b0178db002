"""The labels of query classification, and the queries that have them: the steps before any training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from raylevance.artifacts import Artifact, Draft, digest
from raylevance.config import Settings
from raylevance.data.click_labels import CLICKS, labels_of_clicks
from raylevance.data.hashing import hash_unit
from raylevance.data.id_rows import rows_of_ids
from raylevance.data.judged_tables import TEST, VALIDATION, JudgedTables
from raylevance.data.label_files import read_labels
from raylevance.data.label_space import LabelSpace, with_side_text
from raylevance.data.labelled_queries import OWN, labels_of_file
from raylevance.data.product_labels import CATEGORY, category_labels, column_labels, frequent_words
from raylevance.data.query_knowledge import (
    EDGES,
    clicked_products,
    knowledge_column,
    posterior_knowledge,
    world_knowledge,
)
from raylevance.data.query_labels import JUDGEMENTS, labels_of_judgements, merge_query_labels, without_queries
from raylevance.data.schema import GRADES
from raylevance.data.text import normalised_query
from raylevance.data.title_labels import TITLES, labels_of_titles
from raylevance.errors import UsageError
from raylevance.progress import status
from workloads.run import Run

FEWEST_FOR_VALIDATION, MOST_FOR_VALIDATION = 200, 5_000
"""With fewer judged and clicked queries for validation, spans of titles join them; more do not tell more (our
choice)."""
COLUMNS = ("brand", "color")


class LabelSettings(Settings):
    """The labels that queries get."""

    taxonomy_levels: PositiveInt | None = 2
    """Levels of the category path that are labels; null for all."""
    columns: tuple[str, ...] = ()
    """Columns of the products that are tasks of their own: brand, color."""
    file: Path | None = None
    """File of further labels: label_id, name, parent_id and, optional, task and side_text. Null for none."""
    side_words: NonNegativeInt = 8
    """Words of its products' titles that are added to the text of a label."""

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for column in columns:
            if column not in COLUMNS:
                raise ValueError(f"{column!r} has no labels; name one of {', '.join(COLUMNS)}")
        return columns

    @field_validator("file")
    @classmethod
    def _absolute(cls, file: Path | None) -> Path | None:
        return file.absolute() if file else None


class LabelSourceSettings(Settings):
    """Where the labels of training queries come from. A source has a weight in the loss; 0 leaves it out."""

    clicks: float = Field(1.0, ge=0)
    """Weight of queries from clicks, where the data has events."""
    judgements: float = Field(1.0, ge=0)
    """Weight of judged queries: their labels are those of their relevant products."""
    titles: float = Field(0.3, ge=0)
    """Weight of spans of product titles, as pseudo-queries."""
    title_spans: PositiveInt = 3
    """Spans that are cut from each title."""
    file: Path | None = None
    """File of queries with labels of your own, in Parquet or JSON Lines: query, and labels, a list of label ids."""
    file_weight: float = Field(1.0, gt=0)
    """Weight of the queries of `file`."""
    click_share: float = Field(0.05, gt=0, le=1)
    """Share of the weight of a query's clicks, carts and purchases from which a label counts."""
    least_clicks: PositiveInt = 2
    """Clicks, carts and purchases from which a label counts."""

    @field_validator("file")
    @classmethod
    def _absolute(cls, file: Path | None) -> Path | None:
        return file.absolute() if file else None


class KnowledgeSources(Settings):
    """Texts that are known about training queries, for semi-supervised labels."""

    posterior: NonNegativeInt = 4
    """Titles of a query's most-clicked or most relevant products; 0 for none."""
    world: str | None = None
    """tables/knowledge[@VERSION], which the recipe knowledge publishes; null for none."""


@dataclass(frozen=True)
class LabelData:
    """The label space, and the queries of each split with their labels."""

    artifact: Artifact
    folder: Path
    space: LabelSpace

    @classmethod
    def open(cls, run: Run, artifact: Artifact) -> Self:
        """Read what `label_step` published."""
        folder = run.store.path(artifact.ref)
        return cls(artifact, folder, LabelSpace.open(folder))

    def file(self, split: str) -> Path:
        """Return the Parquet file of the queries of `split`, in `QUERY_LABELS`; all but test's have knowledge too."""
        return self.folder / f"{split}.parquet"

    def queries(self, split: str) -> pa.Table:
        """Read the queries of `split`."""
        return pq.read_table(self.file(split))

    def columns_of(self, rows: pa.Table, task: str) -> tuple[list[str], list[list[int]]]:
        """Return the queries of `task` in `rows`, and the columns of their labels among those that it predicts."""
        own = rows.filter(pc.equal(rows["task"], task))
        span = self.space.rows(task)
        column = np.cumsum(self.space.predicted[span]) - 1
        labels = [[int(column[label - span.start]) for label in labels] for labels in own["labels"].to_pylist()]
        return own["query"].to_pylist(), labels

    def training_queries(self, task: str) -> npt.NDArray[np.int64]:
        """Return in how many training queries each predicted label of `task` is, int64 [labels]."""
        span = self.space.rows(task)
        counts = self.samples()[span]
        return counts[self.space.predicted[span]]

    def samples(self) -> npt.NDArray[np.int64]:
        """Return in how many training queries each label of the space is, int64 [labels]."""
        labels = pq.read_table(self.file("train"), columns=["labels"])["labels"].combine_chunks().flatten()
        return np.bincount(labels.to_numpy(), minlength=len(self.space)).astype(np.int64)


def label_step(
    run: Run,
    tables: Artifact,
    labels: LabelSettings,
    sources: LabelSourceSettings,
    knowledge: KnowledgeSources,
    validation_fraction: float,
    seed: int,
    suffix: str = "",
) -> Artifact:
    """Return `labels/query`: the label space, and the labelled queries of each split."""
    world = run.store.get(knowledge.world) if knowledge.world else None
    if world is not None and tables.ref not in world.parents:
        raise UsageError(f"knowledge.world={knowledge.world}: was not written about {tables.ref}; run knowledge on it")

    def build(draft: Draft) -> None:
        folder = run.store.path(tables.ref)
        judged = JudgedTables.open(folder)
        space = label_space(judged.products, labels)
        rows, report = labelled_queries(folder, judged, space, sources, seed)
        train, validation = split_off_validation(rows, judged, validation_fraction, seed)
        splits = {"train": train, VALIDATION: validation, TEST: labels_of_judgements(judged.split(TEST), space)}
        missing = check_splits(space, splits)
        texts = known_texts(folder, judged, knowledge, None if world is None else run.store.path(world.ref))
        space.save(draft.path)
        for name, table in splits.items():
            if name != TEST:
                table = table.append_column("knowledge", knowledge_column(table["query"].to_pylist(), texts))
            pq.write_table(table, draft.path / f"{name}.parquet")
        counts = {name: table.num_rows for name, table in splits.items()}
        draft.metrics |= {"tasks": space.tasks, "labels": len(space), "predicted_labels": int(space.predicted.sum())}
        draft.metrics["labels_without_queries"] = missing
        draft.metrics |= {"queries": counts, "sources": report["sources"]}

    described: dict[str, Any] = {"labels": labels, "sources": sources, "knowledge": knowledge.posterior}
    files = [file for file in (labels.file, sources.file) if file]
    if files:
        described["files"] = digest(files)
    inputs = [tables, *([world] if world else [])]
    described["validation_fraction"] = validation_fraction
    return run.step(f"labels/query{suffix}", build, settings=described, inputs=inputs, seed=seed)


def label_space(products: pa.Table, settings: LabelSettings) -> LabelSpace:
    """Return the labels of the file, of the category paths and of the columns, with side text.

    A task that the file has is not read from the products.
    """
    parts = [read_labels(settings.file)] if settings.file else []
    tasks = {task for part in parts for task in part["task"].to_pylist()}
    if CATEGORY not in tasks and pc.any(pc.greater(pc.list_value_length(products["category"]), 0)).as_py():
        parts.append(category_labels(products, settings.taxonomy_levels))
    parts += [column_labels(products, column) for column in settings.columns if column not in tasks]
    if not parts:
        raise UsageError("labels: no product has a category; set labels.columns or labels.file")
    space = LabelSpace(pa.concat_tables(parts))
    if not settings.side_words:
        return space
    words = frequent_words(products, space, settings.side_words)
    return LabelSpace(with_side_text(space.labels, words))


def labelled_queries(
    tables: Path, judged: JudgedTables, space: LabelSpace, sources: LabelSourceSettings, seed: int
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the labels of all queries but those of the test split, and what each source gave."""
    found = []
    if sources.clicks and (tables / "events").is_dir():
        events = ray.data.read_parquet(str(tables / "events"))
        clicked = (sources.click_share, sources.least_clicks)
        found.append(labels_of_clicks(events, judged.queries, judged.products, space, *clicked))
    if sources.judgements:
        kept = pc.not_equal(judged.judgements["split"], TEST)
        found.append(labels_of_judgements(_with_judgements(judged, kept), space))
    if sources.file:
        found.append(labels_of_file(sources.file, space))
    if sources.titles:
        products = ray.data.read_parquet(str(tables / "products"))
        found.append(labels_of_titles(products, space, sources.title_spans, seed))
    if not found:
        raise UsageError("sources: no source of labels is left; give one a weight above 0")
    held_out = judged.split(TEST).queries["query"]
    weights = {
        CLICKS: sources.clicks,
        JUDGEMENTS: sources.judgements,
        OWN: sources.file_weight,
        TITLES: sources.titles,
    }
    return merge_query_labels([without_queries(table, held_out) for table in found], weights)


def split_off_validation(rows: pa.Table, judged: JudgedTables, fraction: float, seed: int) -> tuple[pa.Table, pa.Table]:
    """Divide labelled queries into those to learn from, and those that pick the best step, tau and thresholds.

    All rows of a query are on one side. Judged queries go where the data's own split or a hash puts them, other queries
    where a hash does. Spans of titles are for training, except where the others give fewer than `FEWEST_FOR_VALIDATION`
    queries: other spans of the same titles are then learned from, so figures of such spans are too good. More than
    `MOST_FOR_VALIDATION` queries are not needed; the rest is for training.
    """
    queries = pc.unique(rows["query"])
    judged_queries = judged.without_unjudged_queries().queries
    own = normalised_query(judged.train_and_validation(fraction, seed)[1].queries["query"])
    is_judged, is_own = (
        pc.is_in(queries, texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts).to_numpy(False)
        for texts in (normalised_query(judged_queries["query"]), own)
    )
    spoken = pc.unique(rows.filter(pc.not_equal(rows["source"], TITLES))["query"])
    is_title = ~pc.is_in(queries, spoken).to_numpy(False)
    drawn = (hash_unit(queries, seed, "validation") < fraction) & ~is_judged
    order = np.argsort(hash_unit(queries, seed, "order"), kind="stable")
    chosen = order[(is_own | (drawn & ~is_title))[order]]
    if len(chosen) < FEWEST_FOR_VALIDATION:
        spans = order[(drawn & is_title)[order]]
        chosen = np.append(chosen, spans[: FEWEST_FOR_VALIDATION - len(chosen)])
    validating = pc.is_in(rows["query"], queries.take(pa.array(chosen[:MOST_FOR_VALIDATION])))
    return rows.filter(pc.invert(validating)), rows.filter(validating)


def check_splits(space: LabelSpace, splits: Mapping[str, pa.Table]) -> int:
    """Return how many predicted labels no training query has, and name their number in a status line.

    Raises `UsageError` for a split without a labelled query, and for a task that no training query has labels of.
    """
    cures = {
        "train": "give another of sources a weight",
        VALIDATION: "raise validation_fraction, or sources.titles above 0",
        TEST: "judge test queries whose relevant products have a label",
    }
    for name, rows in splits.items():
        if not rows.num_rows:
            raise UsageError(f"no {name} query has a label; {cures[name]}")
    labels = splits["train"]["labels"].combine_chunks().flatten().to_numpy()
    counts = np.bincount(labels, minlength=len(space))
    for task in space.tasks:
        if not counts[space.rows(task)].any():
            raise UsageError(f"task {task!r}: no training query has one of its labels; leave it out of labels")
    missing = int((space.predicted & (counts == 0)).sum())
    if missing:
        status(f"{missing} labels are in no training query; only their texts and the graph speak for them")
    return missing


def known_texts(
    tables: Path, judged: JudgedTables, settings: KnowledgeSources, world: Path | None
) -> list[Mapping[str, list[str]]]:
    """Return the texts that are known about queries, by source. Judgements of test queries are not read."""
    found: list[Mapping[str, list[str]]] = []
    if settings.posterior:
        edges = query_products(tables, judged)
        queries = judged.queries.filter(pc.is_in(judged.queries["query_id"], edges["query_id"].combine_chunks()))
        rows = rows_of_ids(edges["query_id"], queries["query_id"], "query {} is not among the queries")
        texts = queries["query"].take(pa.array(rows))
        weights = edges["weight"].to_numpy()
        found.append(posterior_knowledge(texts, edges["product_id"], weights, judged.products, settings.posterior))
    if world is not None:
        found.append(world_knowledge(pq.read_table(world / "knowledge"), judged.queries))
    return found


def query_products(tables: Path, judged: JudgedTables) -> pa.Table:
    """Return the edges of queries and their products, in `EDGES`: clicked ones, and those of the best grade."""
    outside = _with_judgements(judged, pc.not_equal(judged.judgements["split"], TEST)).judgements
    good = outside.filter(pc.equal(outside["grade"], max(GRADES)))
    columns = [good["query_id"], good["product_id"], pa.array(np.ones(good.num_rows))]
    edges = pa.table(columns, schema=EDGES)
    if (tables / "events").is_dir():
        clicked = clicked_products(ray.data.read_parquet(str(tables / "events")))
        for column, table in (("query_id", judged.queries), ("product_id", judged.products)):
            clicked = clicked.filter(pc.is_in(clicked[column], table[column].combine_chunks()))
        edges = pa.concat_tables([edges, clicked])
    return edges


def _with_judgements(judged: JudgedTables, kept: pa.Array) -> JudgedTables:
    return JudgedTables(judged.products, judged.queries, judged.judgements.filter(kept))
