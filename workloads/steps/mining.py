"""Mining of Mine and Refine (arXiv 2602.17654): an encoder's best products for each query, graded."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, PositiveInt

from raylevance.artifacts import Artifact, Draft, fingerprint
from raylevance.data.graded_pairs import pair_texts
from raylevance.data.hashing import hash_strings, hash_unit, pair_ids
from raylevance.data.judged import TRAIN, Judged
from raylevance.data.schema import JUDGEMENTS
from raylevance.data.text import ProductText
from raylevance.evaluation.agreement import agreement
from raylevance.index.mining import MINED as MINED_PAIRS
from raylevance.index.mining import MiningSettings, candidates, false_negatives, mine, to_label, unjudged
from raylevance.index.sharded_search import search_shards
from raylevance.index.vectors import IndexSettings
from raylevance.inference.embeddings import embed_products
from raylevance.inference.encoding import encode_texts, find_encoder
from raylevance.inference.judge import ZERO_SHOT, JudgeName, find_judge, judge_version
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.labelling import label_table, refuse_failure

MINED = "mined.parquet"
ASSUMED = "assumed"
"""Source of a grade that nobody gave."""
KNOWN = ["query_id", "product_id", "grade", "source"]
GRADED = pa.schema([(name, MINED_PAIRS.field(name).type) for name in KNOWN])


class MineSettings(MiningSettings):
    """Also what becomes of pairs that nobody has judged.

    `unjudged`: judge asks `judge` (judge/NAME, a YAML file, or zero-shot: vLLM on the guideline); skip leaves them out;
    irrelevant takes them for grade 0, as mining without re-annotation does. `most_labelled`: pairs that the judge
    reads, as many of each half, drawn by hash; None: all. It also reads `check_pairs` human judgements of training
    queries, of candidates if there are some: where its quadratic kappa on these is below `minimum_kappa`, its labels
    are counted and not trained on.
    `with_originals=false` trains on mined pairs alone, for comparison.
    """

    unjudged: Literal["judge", "skip", "irrelevant"] = "judge"
    judge: JudgeName = ZERO_SHOT
    most_labelled: PositiveInt | None = 64
    check_pairs: PositiveInt = 64
    minimum_kappa: float = Field(0.2, ge=-1, le=1)
    with_originals: bool = True
    index: IndexSettings = IndexSettings(kind="exact")
    rows_per_shard: PositiveInt = 50_000


def mining_step(
    run: Run,
    tables: Artifact,
    encoder: Artifact,
    train: Judged,
    settings: MineSettings,
    text: ProductText,
    seed: int,
    name: str = "pairs/mined",
    *,
    synthetic: Sequence[Artifact] = (),
    earlier: Sequence[Artifact] = (),
) -> Artifact:
    """`pairs/mined`: rows of `raylevance.index.mining.MINED` for the queries of `train`, and how far to trust them.

    `synthetic`: where queries of `train` come from beside `tables`; `earlier`: the rounds before, whose grades are
    known.
    """

    def build(draft: Draft) -> None:
        found = search(run, tables, encoder, train, settings)
        before = [read_mined(run, artifact).select(KNOWN) for artifact in earlier]
        known = pa.concat_tables([train.judgements.select(KNOWN).cast(GRADED), *before])
        labels, report = graded_anew(run, train, found, known, settings, text, seed)
        wrong, of = false_negatives(mine(found, labels, settings), settings)
        mined = mine(found, pa.concat_tables([known, labels]) if report["trusted"] else known, settings)
        pq.write_table(mined, draft.path / MINED)
        draft.metrics |= report | {
            "candidates": found.num_rows,
            "relevant_in_upper_half": wrong,
            "labelled_in_upper_half": of,
            "roles": _counts(mined["role"]),
        }
        status(summary(draft.metrics))

    made_from = settings.model_dump(mode="json", exclude={"with_originals"}) | {
        "judge": judge_version(settings.judge, run.store) if settings.unjudged == "judge" else None,
        "text": text.model_dump(mode="json"),
        "queries": fingerprint(train.queries["query_id"].to_pylist()),
    }
    return run.step(name, build, settings=made_from, inputs=[tables, encoder, *synthetic, *earlier], seed=seed)


def read_mined(run: Run, artifact: Artifact) -> pa.Table:
    return pq.read_table(run.store.path(artifact.ref) / MINED)


def search(run: Run, tables: Artifact, encoder: Artifact, train: Judged, settings: MineSettings) -> pa.Table:
    """The k nearest products, in its own locale, of every training query, as rows of `CANDIDATES`."""
    named = find_encoder(encoder.ref, run.store)
    shards = embed_products(run.store, named, run.store.path(tables.ref) / "products", settings.rows_per_shard)
    queries = encode_texts(named.path, train.queries["query"].to_pylist(), "query")
    scores, rows = search_shards(shards, queries, settings.k, settings.index, train.groups())
    products = train.products["product_id"].combine_chunks()
    return candidates(train.queries["query_id"].combine_chunks(), products, scores, rows)


def graded_anew(
    run: Run, train: Judged, found: pa.Table, known: pa.Table, settings: MineSettings, text: ProductText, seed: int
) -> tuple[pa.Table, dict[str, Any]]:
    """Grades (rows of `GRADED`) of the candidates `found` that `known` has none of, and what to say of them.

    Raises `RaylevanceError` where the judge failed with most of the pairs.
    """
    new = unjudged(found, known)
    if settings.unjudged == "skip" or not new.num_rows:
        return GRADED.empty_table(), {"trusted": True}
    if settings.unjudged == "irrelevant":
        return assumed(new), {"trusted": True}
    new = to_label(new, settings.most_labelled, settings, seed)
    named = find_judge(settings.judge, run.store)
    judge = named.labelling
    check = to_check(train.by_people().judgements, found, settings.check_pairs, seed)
    # One labelling of both: an engine takes longer to start than to read a few hundred pairs.
    asked = pa.concat_tables([check.select(KNOWN[:2]).cast(new.select(KNOWN[:2]).schema), new.select(KNOWN[:2])])
    labels = label_table(pair_texts(train, asked, named.text or text), judge, run.store)
    refuse_failure(labels, judge)
    report = check_judge(labels.slice(0, check.num_rows), check, settings.minimum_kappa, named.agreement)
    given = labels.slice(check.num_rows)
    graded = pa.table({**{name: new[name] for name in KNOWN[:2]}, **{name: given[name] for name in KNOWN[2:]}})
    graded = graded.filter(graded["grade"].is_valid()).cast(GRADED)
    return graded, report | {
        "judge": judge.version,
        "labelled": graded.num_rows,
        "not_labelled": new.num_rows - graded.num_rows,
    }


def to_check(human: pa.Table, found: pa.Table, most: int, seed: int) -> pa.Table:
    """`most` of the judgements `human`, to check a judge on: of candidates `found` first, then of others, by hash.

    A judge that agrees with people on any pair may be blind among neighbours, which are what it is asked about.
    """
    elsewhere = pc.invert(pc.is_in(pair_ids(human), pair_ids(found))).to_numpy()
    order = np.lexsort((hash_unit(human["product_id"], seed), elsewhere))
    return human.take(pa.array(order[:most]))


def check_judge(
    labels: pa.Table, human: pa.Table, minimum_kappa: float, published: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The judge's agreement with `human`, row by row, and whether that is enough to train on its labels.

    `published`: its agreement on queries held out of its training, where known, which has to be enough as well: with
    the queries that it learned from a judge agrees best.
    """
    answered = labels["grade"].is_valid()
    if not pc.any(answered).as_py():
        return {"agreement": None, "trusted": False}
    predicted, human = labels.filter(answered)["grade"].to_numpy(), human.filter(answered)
    found = agreement(predicted, human["grade"].to_numpy(), human["query_id"].to_pylist())
    kappas = [known["quadratic_kappa"] for known in (found, published) if known]
    return {"agreement": found, "trusted": min(kappas) >= minimum_kappa}


def assumed(new: pa.Table) -> pa.Table:
    """Grade 0 for every pair: what mining without re-annotation does."""
    grades, source = np.zeros(new.num_rows, np.int8), pa.array([ASSUMED] * new.num_rows, pa.string())
    return new.select(KNOWN[:2]).append_column("grade", pa.array(grades)).append_column("source", source).cast(GRADED)


def curriculum(train: Judged, mined: pa.Table, settings: MineSettings) -> Judged:
    """`train` with the mined hard pairs that it lacks, as judgements; of mined pairs alone without originals.

    Of a pair that several rounds have mined, the first counts.
    """
    hard = mined.filter(mined["role"].is_valid())
    hard = hard.take(pa.array(np.sort(np.unique(hash_strings(pair_ids(hard)), return_index=True)[1])))
    if not settings.with_originals:
        kept = pc.is_in(pair_ids(train.judgements), pc.unique(pair_ids(hard)))
        train = replace(train, judgements=train.judgements.filter(kept))
    new = unjudged(hard, train.judgements)
    columns = {name: new[name] for name in ("query_id", "product_id", "grade", "source")}
    columns |= {
        "label": new["grade"].cast(pa.string()),
        "confidence": pa.nulls(new.num_rows, pa.float32()),
        "split": pa.array([TRAIN] * new.num_rows, pa.string()),
    }
    added = pa.table(columns).select(JUDGEMENTS.names).cast(train.judgements.schema)
    return replace(train, judgements=pa.concat_tables([train.judgements, added]))


def summary(metrics: dict[str, Any]) -> str:
    """One line for people: what the judge found among the pairs that plain mining would call negatives."""
    wrong, of = metrics["relevant_in_upper_half"], metrics["labelled_in_upper_half"]
    if not of:
        return f"mining: {metrics['roles']}; no judge graded a new neighbour"
    line = f"mining: {wrong} of {of} new neighbours ({wrong / of:.0%}) are relevant to the judge"
    line += ": false negatives of plain hard-negative mining"
    if metrics["not_labelled"]:
        line += f"; {metrics['not_labelled']} pairs got no grade"
    if not metrics["trusted"]:
        agreed = metrics["agreement"]
        kappa = f"quadratic kappa {agreed['quadratic_kappa']:.2f}" if agreed else "it graded no pair that they did"
        line += f"; its labels are not trained on, for it agrees too little with people ({kappa})"
    return line


def _counts(roles: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(roles.drop_null()).to_pylist()}
