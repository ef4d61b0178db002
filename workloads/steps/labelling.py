"""Label pairs of a recipe by a judge."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.artifacts import Store
from raylevance.data.graded_pairs import pair_texts
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.inference.judge import NamedJudge
from raylevance.judges.audit import REJUDGED
from raylevance.judges.labelling import QUARANTINED, Labelling, label_pairs
from raylevance.llm.backends import open_ledger
from workloads.run import Run


def label_table(pairs: pa.Table, labelling: Labelling, store: Store) -> pa.Table:
    """Return `pairs` (query, product_text) with the columns `LABELS`; answers are kept in the ledger of the store."""
    with tempfile.TemporaryDirectory() as folder, open_ledger(store) as ledger:
        asked, answered = Path(folder, "asked.parquet"), Path(folder, "answered.parquet")
        pq.write_table(pairs, asked)
        label_pairs(asked, answered, labelling, ledger, Path(folder))
        return pq.read_table(answered)


def judge_pairs(run: Run, judge: NamedJudge, judged: JudgedTables, pairs: pa.Table, text: ProductText) -> pa.Table:
    """Return the labels of `pairs` (query_id, product_id) as rows of `REJUDGED`; their texts are in `judged`.

    Raises `RaylevanceError` when the judge fails with most of the pairs.
    """
    labels = label_table(pair_texts(judged, pairs, judge.text or text), judge.labelling, run.store)
    refuse_failure(labels, judge.labelling)
    return labels.select(REJUDGED.names).cast(REJUDGED)


def refuse_failure(labels: pa.Table, judge: Labelling) -> None:
    """Raise `RaylevanceError` where most of `labels` failed: a step made of what is left would stay so."""
    failed = labels.filter(pc.equal(labels["status"], QUARANTINED))
    if failed.num_rows > labels.num_rows / 2:
        raise RaylevanceError(
            f"judge {judge.version}: no grade for {failed.num_rows} of {labels.num_rows} pairs "
            f"({failed['reason'][0]}); mend it and run the same command again: what it answered is kept"
        )
