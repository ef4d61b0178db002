"""How good a judge must be before its labels help: simulated annotators of the demo shop, with known rates of errors.

    raylevance run annotators --config workloads/studies/annotators.yaml

The shop's rule grades any pair, so an annotator is the rule with errors. Each annotator labels the training queries,
and stage 1 and stage 2 of Mine and Refine (arXiv 2602.17654) learn from these labels, without and with mined pairs that
it grades. It also grades pairs that are mined beside true labels.
Publishes `report/annotators` with `annotators.svg`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, NonNegativeInt
from rich.table import Table

from raylevance.artifacts import Artifact, Draft, fingerprint
from raylevance.data.hashing import hash_unit, pair_ids
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.demo.settings import DemoSettings
from raylevance.errors import UsageError
from raylevance.index.mining import MINED_SCHEMA, choose_pairs_to_label, mine_hard_pairs, unjudged_pairs
from raylevance.progress import status
from workloads.readable import with_interval
from workloads.recipes.mine_and_refine import (
    EncoderRecipe,
    check_encoders,
    split_queries,
    train_stage1,
    train_stage2,
    warm_up,
)
from workloads.run import Run
from workloads.steps.mining import GRADE_COLUMNS, GRADED, MINED, nearest_products
from workloads.steps.pair_value import rule_grades
from workloads.steps.retrieval_data import RetrievalData
from workloads.steps.tables import load_tables
from workloads.studies.annotator_plot import GAINS, PICTURE, save_gains
from workloads.studies.grid import GridOutcome
from workloads.studies.measured_encoders import METRIC, Measured, measuring_step

Share = Annotated[float, Field(ge=0, le=1)]

WARMUP, STAGE1, STAGE2, REANNOTATED = "warm-up", "stage 1", "stage 2", "stage 2, mined pairs graded"
TRUE_LABELS, MINED_BESIDE_TRUE = "stage 2, true labels", "stage 2, true labels, mined pairs graded"


class Annotator(NamedTuple):
    """The rule of the shop with errors.

    - `error`: the share of pairs whose grade is a neighbouring one, as people confuse them.
    - `yes`: the share of the pairs of grades 0 and 1 that are called grade 2: a judge that accepts what is near.
    """

    name: str
    error: float = 0.0
    yes: float = 0.0

    def grades(self, rule: np.ndarray[Any, np.dtype[np.int8]], pairs: pa.Table, seed: int) -> Any:
        """Return this annotator's grades of `pairs`, whose grades by the rule are `rule`, int8 [pairs].

        A pair always gets the same grade from the same annotator under the same seed.
        """
        ids = pair_ids(pairs)
        wrong, side, accepted = (hash_unit(ids, seed, purpose) for purpose in ("wrong", "side", "accepted"))
        neighbour = np.where(rule == 1, np.where(side < 0.5, 0, 2), 1)
        grades = np.where(wrong < self.error, neighbour, rule)
        return np.where(accepted < self.yes, 2, grades).astype(np.int8)


class AnnotatorSettings(EncoderRecipe):
    """The settings of mine-and-refine, the annotators, and the seeds."""

    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1)
    errors: tuple[Share, ...] = Field((0.0, 0.06, 0.12, 0.25, 0.5), min_length=1)
    """The share of errors of each annotator; 0 is always among them, as the reference."""
    yes: tuple[Share, ...] = (0.5,)
    """The share of wrong acceptances of further annotators, who call products of grades 0 and 1 grade 2."""

    def annotators(self) -> list[Annotator]:
        """Return the annotators: the one without errors first."""
        wrong = [Annotator(f"{percent(error)} errors", error=error) for error in sorted({0.0, *self.errors})]
        return [*wrong, *(Annotator(f"yes to {percent(share)}", yes=share) for share in dict.fromkeys(self.yes))]


def percent(share: float) -> str:
    """Return `share` in percent, not rounded: only the name of an annotator tells its encoders from another's."""
    return f"{100 * share:.12g}%"


@dataclass(frozen=True)
class AnnotatorOutcome(GridOutcome):
    """The outcome of the study."""

    def as_table(self) -> Table:
        """Return one row for each annotator: how often it is right, and what its labels gave."""
        metrics = self.report.metrics
        title = f"{metrics['queries']} queries of {metrics['data']}, seeds {metrics['seeds']}; {METRIC} of the warm-up "
        title += with_interval(metrics["warmup"])
        table = Table("annotator", "right", *GAINS, box=None, title=title, title_justify="left")
        for row in metrics["annotators"]:
            cells = (with_interval(row[gain]) if row[gain] else "" for gain in GAINS)
            table.add_row(row["annotator"], f"{row['right']:.3f}", *cells)
        table.caption = f"picture: {self.run.store.path(self.report.ref) / PICTURE}"
        table.caption_justify = "left"
        return table


def recipe(settings: AnnotatorSettings, run: Run) -> AnnotatorOutcome:
    """Let every annotator label the training queries under every seed, train, measure on test queries, then report."""
    base = EncoderRecipe.model_validate(settings.model_dump(include=set(EncoderRecipe.model_fields)))
    if settings.data.source != "demo":
        raise UsageError(f"data.source={settings.data.source}: only the demo shop has a rule; set data.source=demo")
    require_one_round(settings)
    run.check = partial(check_encoders, base, run.store)
    tables = load_tables(settings.data, run)
    judged = JudgedTables.open(run.store.path(tables.ref))
    measured: dict[str, dict[str, list[Artifact]]] = {}
    right: dict[str, list[float]] = {}
    for seed in settings.seeds:
        data = split_queries(base.model_copy(update={"seed": seed}), run, tables, judged)
        for annotator in settings.annotators():
            status(f"{annotator.name}, seed {seed}")
            encoders, share = train_on(annotator, base.model_copy(update={"seed": seed}), data)
            right.setdefault(annotator.name, []).append(share)
            for name, encoder in encoders.items():
                made = measuring_step(run, tables, judged, encoder, settings.data.demo)
                measured.setdefault(annotator.name, {}).setdefault(name, []).append(made)
    return AnnotatorOutcome(run, report_step(settings, run, tables, judged, measured, right))


def train_on(annotator: Annotator, settings: EncoderRecipe, data: RetrievalData) -> tuple[dict[str, Artifact], float]:
    """Train both stages on the labels of `annotator`; return the encoders, and the share of labels that are right."""
    shop = settings.data.demo
    warmup = warm_up(settings, data, "-annotator")
    labelled = replace(data, train=relabelled(data.train, annotator, settings.seed))
    same = labelled.train.judgements["grade"].to_numpy() == data.train.judgements["grade"].to_numpy()
    suffix = "-" + annotator.name.replace(" ", "-").replace("%", "")
    encoders = {WARMUP: warmup}
    for each, names in ((labelled, (STAGE1, STAGE2, REANNOTATED)), (data, ("", TRUE_LABELS, MINED_BESIDE_TRUE))):
        own = suffix if each is labelled else "-0-errors"
        stage1 = train_stage1(settings, each, warmup, own)
        stage2 = train_stage2(settings, each, stage1, [], own)
        mined = mining_step(each, f"pairs/mined{own}-by{suffix}", stage1, annotator, settings, shop)
        made = (stage1, stage2, train_stage2(settings, each, stage1, [mined], f"{own}-mined-by{suffix}"))
        encoders |= {name: encoder for name, encoder in zip(names, made, strict=True) if name}
    return encoders, float(same.mean())


def relabelled(train: JudgedTables, annotator: Annotator, seed: int) -> JudgedTables:
    """Return `train` with the grades of `annotator` in place of the rule's."""
    judgements = train.judgements
    grades = annotator.grades(judgements["grade"].to_numpy(), judgements, seed)
    for name, values in {"grade": pa.array(grades), "label": pa.array(grades).cast(pa.string())}.items():
        judgements = judgements.set_column(judgements.column_names.index(name), judgements.schema.field(name), values)
    return replace(train, judgements=judgements)


def require_one_round(settings: EncoderRecipe) -> None:
    """Raise `UsageError` for more rounds of mining than the one whose pairs the rule of the shop grades."""
    if settings.stage2.rounds > 1:
        rounds = settings.stage2.rounds
        raise UsageError(f"stage2.rounds={rounds}: on the demo shop the study mines once; set it to 1")


def mining_step(
    data: RetrievalData, name: str, encoder: Artifact, annotator: Annotator, settings: EncoderRecipe, shop: DemoSettings
) -> Artifact:
    """Return the artifact `name`: hard pairs for the training queries, those without a label graded by `annotator`."""
    mining, seed = settings.mining, settings.seed

    def build(draft: Draft) -> None:
        neighbours = nearest_products(data, encoder, mining)
        graded = data.train.judgements.select(GRADE_COLUMNS).cast(GRADED)
        new = choose_pairs_to_label(unjudged_pairs(neighbours, graded), mining.most_labelled, mining, seed)
        grades = annotator.grades(rule_grades(shop, new), new, seed)
        source = pa.array([f"simulated: {annotator.name}"] * new.num_rows, pa.string())
        pairs = {column: new[column] for column in GRADE_COLUMNS[:2]}
        confidence = pa.nulls(new.num_rows, pa.float32())
        new_grades = pa.table({**pairs, "grade": grades, "source": source, "confidence": confidence}).cast(GRADED)
        pq.write_table(mine_hard_pairs(neighbours, pa.concat_tables([graded, new_grades]), mining), draft.path / MINED)
        draft.metrics |= {"labelled": new.num_rows, "trusted": True}

    described = {
        "mining": mining.model_dump(exclude={"judge", "unjudged"}),
        "columns": MINED_SCHEMA.names,
        "annotator": annotator._asdict(),
        "text": data.text,
        "queries": fingerprint(data.train.queries["query_id"].to_pylist()),
    }
    return data.run.step(name, build, settings=described, inputs=[data.tables, encoder], seed=seed)


def report_step(
    settings: AnnotatorSettings,
    run: Run,
    tables: Artifact,
    judged: JudgedTables,
    measured: Mapping[str, Mapping[str, list[Artifact]]],
    right: Mapping[str, list[float]],
) -> Artifact:
    """Return `report/annotators`: metrics are means over seeds, and intervals are over queries."""

    def build(draft: Draft) -> None:
        test = judged.split(TEST)
        rows = []
        for name, encoders in measured.items():
            found = {system: Measured.read(run.store, made) for system, made in encoders.items()}
            compared = {system: each.compare(found, test, settings.seed) for system, each in found.items()}
            gains = {gain: compared[system]["minus"][baseline] for gain, (system, baseline) in GAINS_OF.items()}
            rows.append({"annotator": name, "right": float(np.mean(right[name])), **gains, "systems": compared})
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "queries": test.queries.num_rows,
            "seeds": list(settings.seeds),
            "warmup": rows[0]["systems"][WARMUP][METRIC],
            "annotators": rows,
        }
        save_gains(draft.path / PICTURE, rows)
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    refs = {
        name: {system: [made.ref for made in each] for system, each in all_.items()} for name, all_ in measured.items()
    }
    inputs = {made.ref: made for encoders in measured.values() for each in encoders.values() for made in each}
    described = {"measured": refs, "right": dict(right)}
    return run.step(
        "report/annotators", build, settings=described, inputs=[tables, *inputs.values()], seed=settings.seed
    )


GAINS_OF = dict(
    zip(
        GAINS,
        ((STAGE1, WARMUP), (STAGE2, WARMUP), (REANNOTATED, STAGE2), (MINED_BESIDE_TRUE, TRUE_LABELS)),
        strict=True,
    )
)
"""The system and the baseline whose difference each gain is."""
