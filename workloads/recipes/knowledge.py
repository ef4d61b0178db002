"""World knowledge of queries, as SSUF has it (arXiv 2506.21049).

    raylevance run knowledge [--set model.backend=endpoint ...]

Each query, with the products that BM25 finds for it, is given to a language model, which writes a description, related
queries, categories and products. Publishes `tables/knowledge`: knowledge, and the quarantine of what could not be read.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged import Judged
from raylevance.data.text import baseline_text
from raylevance.llm.asking import ask_prompts
from raylevance.llm.backends import LanguageModelSettings, open_language_model, open_ledger
from raylevance.llm.knowledge import QUERY_REQUEST, TITLES, query_knowledge, query_prompts
from workloads.run import Run
from workloads.steps.systems import rank_lexical
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.tables_outcome import TablesOutcome


class RecipeSettings(Settings):
    """`model` writes."""

    data: DataSettings = DataSettings()
    model: LanguageModelSettings = LanguageModelSettings()


def recipe(settings: RecipeSettings, run: Run) -> TablesOutcome:
    """One step: related products, prompts, answers, texts."""
    tables = load_tables(settings.data, run)
    model, version = open_language_model(settings.model)

    def build(draft: Draft) -> None:
        judged = Judged.open(run.store.path(tables.ref))
        described = with_titles(judged)
        asked = query_prompts(described, version)
        with open_ledger(run.store) as ledger:
            work = run.store.work_folder(f"knowledge-{tables.version}-{version}")
            answers = ask_prompts(asked, model, QUERY_REQUEST, ledger, work)
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


def with_titles(judged: Judged) -> pa.Table:
    """query_id, query and the titles of the products that BM25 finds."""
    titles = judged.products["title"].to_pylist()
    _, rows = rank_lexical(judged, baseline_text(judged.products))
    found = [[titles[row] for row in places[:TITLES] if row >= 0] for places in rows]
    return pa.table({"query_id": judged.queries["query_id"], "query": judged.queries["query"], "titles": found})
