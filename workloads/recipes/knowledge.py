"""World knowledge of queries, written by a language model as in SSUF (arXiv 2506.21049).

    raylevance run knowledge [--set model.backend=endpoint ...]

The language model reads each query with the products that BM25 finds for it, and writes a description, related queries,
categories and products. Publishes `tables/knowledge`: the folder `knowledge`, and `quarantine` for unreadable answers.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import baseline_text
from raylevance.llm.backends import LanguageModelSettings, open_language_model, open_ledger
from raylevance.llm.cached_answers import answer_prompts
from raylevance.llm.knowledge import MAX_TITLES, QUERY_REQUEST, query_knowledge, query_prompts
from workloads.run import Run
from workloads.steps.systems import rank_lexical
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.tables_outcome import TablesOutcome


class KnowledgeSettings(Settings):
    """The tables to read queries from, and the language model that writes."""

    data: DataSettings = DataSettings()
    model: LanguageModelSettings = LanguageModelSettings()


def recipe(settings: KnowledgeSettings, run: Run) -> TablesOutcome:
    """Find related products, ask the language model and read its answers, all in one step."""
    tables = load_tables(settings.data, run)
    model, version = open_language_model(settings.model)

    def build(draft: Draft) -> None:
        judged = JudgedTables.open(run.store.path(tables.ref))
        described = with_titles(judged)
        asked = query_prompts(described, version)
        with open_ledger(run.store) as ledger:
            work = run.store.work_folder(f"knowledge-{tables.version}-{version}")
            answers = answer_prompts(asked, model, QUERY_REQUEST, ledger, work)
        known = query_knowledge(answers, described, version)
        for name, table in {"knowledge": known.rows, "quarantine": known.quarantined}.items():
            (draft.path / name).mkdir()
            pq.write_table(table, draft.path / name / "part-0.parquet")
        draft.metrics |= {
            "prompts": asked.num_rows,
            "texts": known.rows.num_rows,
            "quarantined": known.quarantined.num_rows,
        }

    artifact: Artifact = run.step("tables/knowledge", build, settings={"model": version}, inputs=[tables])
    return TablesOutcome(run, artifact)


def with_titles(judged: JudgedTables) -> pa.Table:
    """Return query_id, query and the titles of the products that BM25 finds for it."""
    titles = judged.products["title"].to_pylist()
    _, rows = rank_lexical(judged, baseline_text(judged.products))
    found = [[titles[row] for row in places[:MAX_TITLES] if row >= 0] for places in rows]
    return pa.table({"query_id": judged.queries["query_id"], "query": judged.queries["query"], "titles": found})
