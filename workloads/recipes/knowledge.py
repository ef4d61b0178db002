"""World knowledge of queries and labels, written by a language model as in SSUF (arXiv 2506.21049).

    raylevance run knowledge [--set model.backend=endpoint ...] [--set 'labels={taxonomy_levels: 2}']

The language model reads each query with the products that BM25 finds for it, and writes a description, related queries,
categories and products. With `labels` it also reads each label with some of its products, and writes a description,
words and queries. Publishes `tables/knowledge`: the folder `knowledge`, `label_knowledge` with `labels`, and
`quarantine` for unreadable answers. `query-classification` reads them by `knowledge.world`.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft, digest
from raylevance.config import Settings
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import titles_of_labels
from raylevance.data.text import baseline_text
from raylevance.errors import UsageError
from raylevance.llm.backends import LanguageModelSettings, open_language_model, open_ledger
from raylevance.llm.cached_answers import answer_prompts
from raylevance.llm.knowledge import (
    LABEL_REQUEST,
    MAX_TITLES,
    QUERY_REQUEST,
    Knowledge,
    label_knowledge,
    label_prompts,
    query_knowledge,
    query_prompts,
)
from raylevance.llm.language_model import Request
from raylevance.progress import progress_bar
from workloads.run import Run
from workloads.steps.label_data import DESCRIPTIONS, LabelSettings, label_space
from workloads.steps.systems import rank_lexical
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.tables_outcome import TablesOutcome

Ask = Callable[[pa.Table, Request], pa.Table]
"""Returns the answers, in `ANSWERS`, to rows of `PROMPTS`."""


class KnowledgeSettings(Settings):
    """The tables to read queries from, the labels to write about, and the language model that writes."""

    data: DataSettings = DataSettings()
    labels: LabelSettings | None = None
    """The labels to write about, with the settings that query-classification will have; null for none."""
    model: LanguageModelSettings = LanguageModelSettings()


def recipe(settings: KnowledgeSettings, run: Run) -> TablesOutcome:
    """Find related products, ask the language model and read its answers, all in one step."""
    if settings.labels and settings.labels.file and not settings.labels.file.is_file():
        raise UsageError(f"labels.file={settings.labels.file}: no such file")
    tables = load_tables(settings.data, run)
    model, version = open_language_model(settings.model)
    work = run.store.work_folder(f"knowledge-{tables.version}-{version}")
    # Words of titles are added to a label's text, which no prompt has.
    labels = settings.labels and settings.labels.model_copy(update={"side_words": 0})
    asked = 0

    def ask(prompts: pa.Table, request: Request) -> pa.Table:
        nonlocal asked
        asked += prompts.num_rows
        with open_ledger(run.store) as ledger, progress_bar("knowledge", "prompts") as bar:
            return answer_prompts(prompts, model, request, ledger, work, lambda rows, _: bar.advance(rows))

    def build(draft: Draft) -> None:
        judged = JudgedTables.open(run.store.path(tables.ref))
        known = {"knowledge": about_queries(judged, version, ask)}
        if labels:
            known[DESCRIPTIONS] = about_labels(label_space(judged.products, labels), judged, version, ask)
        written = {name: found.rows for name, found in known.items()}
        written["quarantine"] = pa.concat_tables(found.quarantined for found in known.values())
        for name, table in written.items():
            (draft.path / name).mkdir()
            pq.write_table(table, draft.path / name / "part-0.parquet")
        names = {"knowledge": "texts", DESCRIPTIONS: "label_texts", "quarantine": "quarantined"}
        draft.metrics |= {"prompts": asked, **{names[name]: table.num_rows for name, table in written.items()}}

    described: dict[str, Any] = {"model": version}
    if labels:
        described["labels"] = labels
        if labels.file:
            described["file"] = digest([labels.file])
    artifact: Artifact = run.step("tables/knowledge", build, settings=described, inputs=[tables])
    return TablesOutcome(run, artifact)


def about_queries(judged: JudgedTables, version: str, ask: Ask) -> Knowledge:
    """Return what the language model writes about each query."""
    queries = with_titles(judged)
    return query_knowledge(ask(query_prompts(queries, version), QUERY_REQUEST), queries, version)


def about_labels(space: LabelSpace, judged: JudgedTables, version: str, ask: Ask) -> Knowledge:
    """Return what the language model writes about each label."""
    titles = titles_of_labels(judged.products, space, MAX_TITLES)
    paths = [space.path(row) for row in range(len(space))]
    labels = space.labels.append_column("path", [paths]).append_column("titles", [titles])
    return label_knowledge(ask(label_prompts(labels, version), LABEL_REQUEST), labels, version)


def with_titles(judged: JudgedTables) -> pa.Table:
    """Return query_id, query and the titles of the products that BM25 finds for it."""
    titles = judged.products["title"].to_pylist()
    _, rows = rank_lexical(judged, baseline_text(judged.products))
    found = [[titles[row] for row in places[:MAX_TITLES] if row >= 0] for places in rows]
    return pa.table({"query_id": judged.queries["query_id"], "query": judged.queries["query"], "titles": found})
