"""Choose the pairs that are worth a judgement, up to a budget in pairs or in money (our choice).

    raylevance run pairs-to-judge [--set pairs=2000] [--set encoder=encoder/stage2] [--set judge=judge/fitted]

Every query is answered by vectors and by words (BM25F). Of the products that either finds, a pair that nobody judged,
no model either, is worth a judgement where the two rank it differently and the judge is unsure of its grade. Publishes
`pairs/to-judge`: the chosen pairs with their texts, the most valuable first, as `raylevance label` reads them.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from rich.table import Table

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.config import Settings
from raylevance.data.graded_pairs import pair_texts
from raylevance.data.text import ProductText
from raylevance.demo.settings import DemoSettings
from raylevance.errors import UsageError
from raylevance.index.lexical_fields import LexicalSettings
from raylevance.index.mining import unjudged_pairs
from raylevance.index.vectors import IndexSettings
from raylevance.inference.encoder import backbone_digest
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.judge import JudgeReference, require_judge
from raylevance.inference.judge import load as load_judge
from raylevance.judges.judgement_value import discount_differences, found_pairs, most_valuable
from raylevance.models.encoder import read_encoder_settings
from workloads.run import Run
from workloads.steps.encoder_training import precision_settings
from workloads.steps.label_data import open_judged
from workloads.steps.pair_value import (
    Queries,
    add_errors,
    ask_queries,
    grade_doubts,
    rank_by_words,
    rule_grades,
    splits_of_pairs,
    what_is_bought,
)
from workloads.steps.systems import rank_by_shards
from workloads.steps.tables import DataSettings, load_tables

TO_JUDGE = "to_judge.parquet"
WRITTEN = ["query_id", "product_id", "rank_1", "rank_2", "value", "query", "product_text", "split"]
"""The columns of the chosen pairs."""
DEFAULT_PAIRS = 1000


class PairsToJudgeSettings(Settings):
    """The rankings that are compared, who is asked how sure a grade is, and the budget."""

    seed: NonNegativeInt = 0
    data: DataSettings = DataSettings()
    queries: Queries = "train"
    """train: those that are not in the validation or test split; held-out: those that are. A query without judgements
    is in train, or in the split that is drawn for it where the judgements have none."""
    encoder: str = "minilm"
    """encoder/NAME[@VERSION], or a Hugging Face path: the ranking by vectors."""
    lexical: LexicalSettings = LexicalSettings()
    """The ranking by words."""
    depth: PositiveInt = 20
    """The best products of each ranking."""
    judge: JudgeReference | None = None
    """judge/NAME[@VERSION] or a YAML file: the probabilities of its grades say how unsure a grade is. It is asked about
    every pair that is found, so take one that costs little. Null: all grades are equally uncertain."""
    text: ProductText = ProductText()
    """The text of a product in the published pairs."""
    pairs: PositiveInt | None = None
    """The most pairs to choose; null: what `money` pays for, or 1,000."""
    money: PositiveFloat | None = None
    """The most that the judgements may cost, in any currency."""
    price_per_pair: PositiveFloat | None = None
    """The cost of a judgement."""
    rows_per_shard: PositiveInt = 50_000
    """Products whose vectors are searched at once, which bounds the memory of vectors."""

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.money is not None and self.price_per_pair is None:
            raise ValueError("money: set price_per_pair, the cost of a judgement")
        if self.money is not None and self.pairs is not None:
            raise ValueError("pairs and money: set one of them")
        if not self.budget():
            raise ValueError(f"money={self.money}: pays for no pair at price_per_pair={self.price_per_pair}")
        return self

    def budget(self) -> int:
        """Return the most pairs to choose."""
        if self.money is not None and self.price_per_pair is not None:
            return int(self.money / self.price_per_pair + 1e-9)
        return self.pairs or DEFAULT_PAIRS


COLUMNS = {
    "pairs": "pairs",
    "cost": "cost",
    "share": "share of the variance",
    "deviation": "deviation left",
    "error": "error by the rule",
    "error_by_rank": "error, best ranks first",
    "error_at_random": "error, random pairs",
}
"""The columns of the report: what is bought by the first pairs.

- share: of the variance of the difference between both rankings in DCG that comes from pairs without a judgement.
- deviation: the standard deviation of the difference of the mean DCG that is left.
- error: on the demo shop, whose rule grades every pair, the error of that difference where it is estimated from these
  pairs, with the mean of their grades for all others; the mean over draws of the order of equal pairs.
- error_by_rank: the same for as many pairs of the best ranks in either ranking, as pooling takes them.
- error_at_random: the same for as many pairs at random.
"""


@dataclass(frozen=True)
class PairsOutcome:
    """The chosen pairs, and what they are worth."""

    run: Run
    pairs: Artifact

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {"artifacts": {artifact.name: artifact.ref for artifact in self.run.made}, **self.pairs.metrics}

    def as_table(self) -> Table:
        """Return what each part of the budget buys."""
        metrics = self.pairs.metrics
        columns = {name: title for name, title in COLUMNS.items() if name in metrics["bought"][-1]}
        title = (
            f"{metrics['chosen']} of {metrics['unjudged']} pairs without a judgement, {metrics['queries']} queries: "
            f"{self.run.store.path(self.pairs.ref) / TO_JUDGE}"
        )
        table = Table(*columns.values(), box=None, pad_edge=False, title=title, title_justify="left")
        if unspent := metrics["budget"] - metrics["chosen"]:
            table.caption = (
                f"{unspent} pairs of the budget are left: of the others, {metrics['worth_nothing']} are worth nothing, "
                "because both rankings place them alike or their grade is certain"
            )
            table.caption_justify = "left"
        for row in metrics["bought"]:
            table.add_row(*(f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in columns))
        return table


def recipe(settings: PairsToJudgeSettings, run: Run) -> PairsOutcome:
    """Rank, value and choose, in one step."""
    run.check = partial(check_settings, settings, run.store)
    tables = load_tables(settings.data, run)
    return PairsOutcome(run, choose_pairs(settings, run, tables))


def check_settings(settings: PairsToJudgeSettings, store: Store) -> None:
    """Refuse an encoder and a judge that can't be read before any work."""
    read_encoder_settings(load_encoder(store, settings.encoder).path)
    if settings.judge is not None:
        require_judge(store, settings.judge)


def choose_pairs(settings: PairsToJudgeSettings, run: Run, tables: Artifact) -> Artifact:
    """Return `pairs/to-judge`: the most valuable pairs, and what each part of the budget buys."""
    encoder = load_encoder(run.store, settings.encoder)
    judge = load_judge(run.store, settings.judge) if settings.judge else None

    def build(draft: Draft) -> None:
        folder = run.store.path(tables.ref)
        judged = open_judged(folder)
        asked = ask_queries(judged, settings.queries)
        exact, products = IndexSettings(kind="exact"), folder / "products"
        dense = rank_by_shards(run.store, asked, products, encoder, settings.depth, exact, settings.rows_per_shard)
        words = rank_by_words(asked, settings.lexical, settings.depth)
        found = found_pairs(dense, words, asked.queries["query_id"], asked.products["product_id"])
        new = unjudged_pairs(found, judged.judgements)
        differences = discount_differences(new)
        values = differences**2 * grade_doubts(run.store, judged, new, judge, settings.text)
        order = most_valuable(new, values, settings.seed)
        if not len(order):
            raise UsageError(
                f"depth={settings.depth}: {found.num_rows - new.num_rows} of {found.num_rows} pairs are judged, and "
                "the others are ranked alike or their grades certain; raise depth, or ask about other queries"
            )
        chosen = order[: settings.budget()]
        picked = new.take(pa.array(chosen)).append_column("value", pa.array(values[chosen]))
        texts = pair_texts(judged, picked, settings.text)
        columns = {name: table[name] for table in (picked, texts) for name in table.column_names}
        columns["split"] = splits_of_pairs(judged, picked)
        pq.write_table(pa.table(columns).select(WRITTEN), draft.path / TO_JUDGE)
        queries = asked.queries.num_rows
        bought = what_is_bought(values[order], len(chosen), queries, settings.price_per_pair)
        if tables.name == "tables/demo":
            grades = rule_grades(DemoSettings.model_validate(tables.settings), new)
            draft.metrics["difference_by_rule"] = float(differences @ grades) / queries
            add_errors(bought, grades, new, values, queries, settings.seed)
        draft.metrics |= {
            "queries": queries,
            "found": found.num_rows,
            "unjudged": new.num_rows,
            "worth_nothing": new.num_rows - len(order),
            "chosen": len(chosen),
            "budget": settings.budget(),
            "bought": bought,
        }

    described = {
        **{field: value for field, value in settings if field not in ("data", "judge", "seed", "rows_per_shard")},
        "columns": WRITTEN,
        "judge": judge and judge.labels_version,
        "backbone": None if encoder.artifact else backbone_digest(settings.encoder),
        **precision_settings(),
    }
    inputs = [tables, *([encoder.artifact] if encoder.artifact else [])]
    return run.step("pairs/to-judge", build, settings=described, inputs=inputs, seed=settings.seed)
