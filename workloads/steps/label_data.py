"""The labels of query classification, and the queries that have them: the steps before any training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
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
from raylevance.config import AbsolutePath, Settings
from raylevance.data.click_labels import CLICKS, labels_of_clicks
from raylevance.data.hashing import hash_unit
from raylevance.data.judged_tables import TEST, VALIDATION, JudgedTables
from raylevance.data.label_files import read_labels
from raylevance.data.label_space import LabelSpace, with_side_text
from raylevance.data.labelled_queries import OWN, labels_of_file
from raylevance.data.product_labels import (
    CATEGORY,
    category_labels,
    column_labels,
    frequent_words,
    labels_of_products,
)
from raylevance.data.query_knowledge import knowledge_column
from raylevance.data.query_labels import (
    JUDGEMENTS,
    QUERY_LABELS,
    labels_of_judgements,
    merge_query_labels,
    without_queries,
)
from raylevance.data.schema import JUDGEMENTS as JUDGEMENT_ROWS
from raylevance.data.schema import PRODUCTS, QUERIES
from raylevance.data.title_labels import TITLES, labels_of_titles
from raylevance.errors import UsageError
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.known_texts import known_texts
from workloads.steps.label_splits import Fold, check_splits, queries_lacking, test_queries, validation_queries

READING = 4
"""Goes up when labels of queries are made in another way, so that those from before are not taken for the same."""
COLUMNS = ("brand", "color")
DESCRIPTIONS = "label_knowledge"
"""The folder of tables/knowledge with texts about labels."""


class LabelSettings(Settings):
    """The labels that queries get."""

    taxonomy_levels: PositiveInt | None = 2
    """Levels of the category path that are labels; null for all."""
    columns: tuple[str, ...] = ()
    """Columns of the products that are tasks of their own: brand, color."""
    file: AbsolutePath | None = None
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
    file: AbsolutePath | None = None
    """File of queries with labels of your own, in Parquet or JSON Lines: query, and labels, a list of label ids."""
    file_weight: float = Field(1.0, gt=0)
    """Weight of the queries of `file`."""
    click_share: float = Field(0.05, gt=0, le=1)
    """Share of the weight of a query's clicks, carts and purchases from which a label counts."""
    least_clicks: PositiveInt = 2
    """Clicks, carts and purchases from which a label counts."""


class KnowledgeSources(Settings):
    """Texts that are known about training queries, for semi-supervised labels."""

    posterior: NonNegativeInt = 4
    """Titles of a query's most-clicked or most relevant products; 0 for none. Clicks and judgements are read where
    `sources` gives them a weight."""
    world: str | None = None
    """tables/knowledge[@VERSION], which the recipe knowledge publishes; null for none. What it says about labels is
    added to their texts."""


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
        counts = self.samples[span]
        return counts[self.space.predicted[span]]

    @cached_property
    def samples(self) -> npt.NDArray[np.int64]:
        """In how many training queries each label of the space is, int64 [labels]."""
        labels = pq.read_table(self.file("train"), columns=["labels"])["labels"].combine_chunks().flatten()
        return np.bincount(labels.to_numpy(), minlength=len(self.space)).astype(np.int64)


@dataclass(frozen=True)
class LabelPlan:
    """Settings that decide the labelled queries of each split."""

    labels: LabelSettings
    sources: LabelSourceSettings
    knowledge: KnowledgeSources
    validation_fraction: float
    test_fraction: float
    seed: int
    fold: Fold | None = None
    test_seed: int | None = None
    """The seed that draws the queries to test on, where the data has no test split; None for `seed`."""

    def described(self) -> dict[str, Any]:
        """Return the settings of the step, as its fingerprint has them."""
        found: dict[str, Any] = {"labels": self.labels, "sources": self.sources, "knowledge": self.knowledge.posterior}
        files = [file for file in (self.labels.file, self.sources.file) if file]
        if files:
            found["files"] = digest(files)
        if self.sources.file and not self.fold:
            found["test_fraction"] = self.test_fraction
            if self.test_seed not in (None, self.seed):
                found["test_seed"] = self.test_seed
        if self.fold:
            found["fold"] = asdict(self.fold)
        return found | {"validation_fraction": self.validation_fraction, "reading": READING}


def label_step(run: Run, tables: Artifact | None, plan: LabelPlan, suffix: str = "") -> Artifact:
    """Return `labels/query`: the label space, and the labelled queries of each split. Without `tables` there is no
    product, and both come from files."""
    chosen = plan.knowledge.world
    world = run.store.get(chosen) if chosen else None
    if world is not None and (tables is None or tables.ref not in world.parents):
        about = "no products" if tables is None else tables.ref
        raise UsageError(f"knowledge.world={chosen}: was not written about {about}; run knowledge on it")

    def build(draft: Draft) -> None:
        folder = None if tables is None else run.store.path(tables.ref)
        judged = open_judged(folder)
        space = label_space(judged.products, plan.labels)
        described = None if world is None else descriptions(run.store.path(world.ref), space)
        if described is not None:
            space = LabelSpace(with_side_text(space.labels, described))
        own = labels_of_file(plan.sources.file, space) if plan.sources.file else None
        seed = plan.seed if plan.test_seed is None else plan.test_seed
        test, held_out = test_queries(judged, own, space, plan.test_fraction, seed, plan.fold)
        learned, validation, report = labelled_queries(folder, judged, own, space, plan, held_out)
        splits = {"train": learned, VALIDATION: validation, TEST: test}
        missing = check_splits(space, splits)
        texts = known_texts(
            folder,
            judged,
            plan.knowledge.posterior,
            None if world is None else run.store.path(world.ref),
            clicks=plan.sources.clicks > 0,
            judgements=plan.sources.judgements > 0,
        )
        space.save(draft.path)
        for name, table in splits.items():
            if name != TEST:
                table = table.append_column("knowledge", knowledge_column(table["query"].to_pylist(), texts))
            pq.write_table(table, draft.path / f"{name}.parquet")
        counts = {name: table.num_rows for name, table in splits.items()}
        draft.metrics |= {"tasks": space.tasks, "labels": len(space), "predicted_labels": int(space.predicted.sum())}
        draft.metrics["labels_without_queries"] = missing
        if described is not None:
            draft.metrics["labels_described"] = sum(bool(texts) for texts in described)
        draft.metrics |= {"queries": counts, "sources": report["sources"]}

    inputs = [artifact for artifact in (tables, world) if artifact is not None]
    return run.step(f"labels/query{suffix}", build, settings=plan.described(), inputs=inputs, seed=plan.seed)


def open_judged(folder: Path | None) -> JudgedTables:
    """Return products, queries and judgements. Without a folder all are empty; a folder without judgements has none."""
    if folder is not None and (folder / "judgements").is_dir():
        return JudgedTables.read(folder)
    found = []
    for name, schema in (("products", PRODUCTS), ("queries", QUERIES), ("judgements", JUDGEMENT_ROWS)):
        there = folder is not None and (folder / name).is_dir()
        found.append(pq.read_table(folder / name) if there and folder else schema.empty_table())
    return JudgedTables(*found)


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
    return LabelSpace(with_side_text(space.labels, words, settings.side_words))


def descriptions(world: Path, space: LabelSpace) -> list[list[str]] | None:
    """Return what a language model wrote about each label, [labels] lists; None where it wrote about queries alone.

    Texts about other labels, as of more levels of the taxonomy, and labels without a text are counted in status lines.
    """
    if not (world / DESCRIPTIONS).is_dir():
        return None
    written: dict[tuple[str, str], list[str]] = {}
    for row in pq.read_table(world / DESCRIPTIONS).to_pylist():
        written.setdefault((row["task"], row["label_id"]), []).append(row["text"])
    keys = list(zip(*(space.labels[name].to_pylist() for name in ("task", "label_id")), strict=True))
    others = len(written.keys() - set(keys))
    if others:
        status(f"knowledge.world: texts about {others} labels that are not among the {len(keys)} here are not read")
    if lacking := sum(key not in written for key in keys):
        status(f"knowledge.world: {lacking} of {len(keys)} labels have no text; run knowledge with the same labels")
    return [written.get(key, []) for key in keys]


def labelled_queries(
    tables: Path | None,
    judged: JudgedTables,
    own: pa.Table | None,
    space: LabelSpace,
    plan: LabelPlan,
    held_out: pa.Array,
) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """Return the queries to learn from and those of the validation, without `held_out`, and what each source gave.

    All rows of a query are on one side. Validation queries are judged, clicked or own; a task with too few of them gets
    spans of titles as well, of products whose other spans are not learned from.
    """
    sources = plan.sources
    weights = {JUDGEMENTS: sources.judgements, TITLES: sources.titles}
    found = []
    if sources.clicks and tables is not None and (tables / "events").is_dir():
        events = ray.data.read_parquet(str(tables / "events"))
        clicked = (sources.click_share, sources.least_clicks)
        found.append(labels_of_clicks(events, judged.queries, judged.products, space, *clicked))
        weights = {CLICKS: sources.clicks, **weights}
    if sources.judgements and judged.judgements.num_rows:
        found.append(labels_of_judgements(judged, space))
    if own is not None:
        found.append(own)
        weights[OWN] = sources.file_weight
    asked = [without_queries(table, held_out) for table in found]
    rows = pa.concat_tables([QUERY_LABELS.empty_table(), *asked])
    validating = validation_queries(rows, judged, held_out, plan.validation_fraction, plan.seed)
    if sources.titles and judged.products.num_rows:
        lacking = queries_lacking(rows, space, validating)
        spans, more = title_spans(tables, judged.products, space, plan, lacking)
        known_texts = pa.concat_arrays([held_out, pc.unique(rows["query"])])
        more = more.filter(pc.invert(pc.is_in(more["query"], known_texts)))
        validating = pa.concat_arrays([validating, pc.unique(more["query"])])
        asked += [without_queries(spans, held_out), more]
    if not any(table.num_rows for table in asked):
        raise UsageError("sources: no source gives a query a label; give one a weight above 0, or set sources.file")
    merged, report = merge_query_labels(asked, {name: weight for name, weight in weights.items() if weight})
    chosen = pc.is_in(merged["query"], validating)
    return merged.filter(pc.invert(chosen)), merged.filter(chosen), report


def title_spans(
    tables: Path | None, products: pa.Table, space: LabelSpace, plan: LabelPlan, lacking: Mapping[str, int]
) -> tuple[pa.Table, pa.Table]:
    """Return spans of titles to learn from, and about as many as each task is `lacking` for validation.

    The latter are of products drawn by hash, no more than `plan.validation_fraction` of a task's, which give no span to
    learn from.
    """
    assert tables is not None
    every = ray.data.read_parquet(str(tables / "products"))
    per_product = plan.sources.title_spans
    order = np.argsort(hash_unit(products["product_id"], plan.seed, "validation"), kind="stable")
    has_label = labels_of_products(products, space)[order] >= 0
    held = np.zeros(len(order), bool)
    for place, task in enumerate(space.tasks):
        labelled = np.flatnonzero(has_label[:, place])
        most = int(plan.validation_fraction * len(labelled))
        held[labelled[: min(most, -(-lacking[task] // per_product))]] = True
    ids = products["product_id"].take(pa.array(order[held])).combine_chunks()
    if not len(ids):
        return labels_of_titles(every, space, per_product, plan.seed), QUERY_LABELS.empty_table()
    rest = every.map_batches(partial(_without, ids=ids), batch_format="pyarrow", batch_size=None)
    apart = ray.data.from_arrow(products.filter(pc.is_in(products["product_id"], ids)))
    learned = labels_of_titles(rest, space, per_product, plan.seed)
    return learned, labels_of_titles(apart, space, per_product, plan.seed, named_by=every)


def _without(products: pa.Table, ids: pa.Array) -> pa.Table:
    return products.filter(pc.invert(pc.is_in(products["product_id"], ids)))
