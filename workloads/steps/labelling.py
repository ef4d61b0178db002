"""Label pairs of a recipe by a judge."""

import pyarrow as pa

from raylevance.data.graded_pairs import pair_texts
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText
from raylevance.inference.judge import LoadedJudge
from raylevance.judges.audit import REJUDGED
from raylevance.judges.gate import require_answers
from raylevance.judges.labelling import label_table
from workloads.run import Run


def judge_pairs(run: Run, judge: LoadedJudge, judged: JudgedTables, pairs: pa.Table, text: ProductText) -> pa.Table:
    """Return the labels of `pairs` (query_id, product_id) as rows of `REJUDGED`; their texts are in `judged`.

    Raises `RaylevanceError` when the judge fails with most of the pairs.
    """
    labels = label_table(pair_texts(judged, pairs, judge.text or text), judge.labelling, run.store)
    require_answers(labels, judge.labelling)
    return labels.select(REJUDGED.names).cast(REJUDGED)
