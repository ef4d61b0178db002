"""Measure encoders on the test queries, and compare variants whose encoders were trained under several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.demo.judgements import grade_catalogue
from raylevance.demo.settings import DemoSettings
from raylevance.demo.shop import open_shop
from raylevance.evaluation.intervals import Values, bootstrap_mean, paired_difference
from raylevance.evaluation.ranking_metrics import evaluate_run
from raylevance.inference.encoder import load as load_encoder
from workloads.run import Run
from workloads.steps.retrieval_report import measure_encoder, measure_margins
from workloads.steps.tables import DataSettings, locate

METRIC = "ndcg@10"
JUDGED = "ndcg@10_judged"
"""nDCG@10 of each query's judged products alone, which is what a training on judged products teaches."""
NDCG, COSINES = "ndcg.parquet", "cosines.parquet"


def shop_of(data: DataSettings) -> DemoSettings | None:
    """Return the settings of the demo shop where `data` generates one, else None: tables of the store may be any."""
    if data.source.startswith("tables/"):
        return None
    return data.demo if locate(data)[0] == "demo" else None


def measuring_step(
    run: Run, tables: Artifact, judged: JudgedTables, encoder: Artifact, shop: DemoSettings | None = None
) -> Artifact:
    """Return `report/measured-<encoder>`: `METRIC` and `JUDGED` of each test query, and the cosine of each judged pair.

    Queries are in the order of the tables, and so are the judged pairs. For `METRIC` they rank the whole catalogue.
    With `shop`, which `tables` were generated from, its rule grades every product. Without, a product that nobody
    judged is irrelevant, which hides what an encoder learns where few of the relevant products are judged.
    """

    def build(draft: Draft) -> None:
        test = judged.split(TEST)
        ranked, cosines = measure_encoder(run.store, test, load_encoder(run.store, encoder.ref))
        graded = test.judgements
        if shop:
            graded = grade_catalogue(open_shop(shop), test.queries["query_id"].combine_chunks())
        values = {
            METRIC: evaluate_run(ranked, graded, ["ndcg@10"])["ndcg@10"],
            JUDGED: evaluate_run(judged_run(test, cosines), test.judgements, ["ndcg@10"])["ndcg@10"],
        }
        draft.metrics |= {name: float(np.mean(of_queries)) for name, of_queries in values.items()}
        pq.write_table(pa.table(values), draft.path / NDCG)
        pq.write_table(pa.table({"cosine": cosines}), draft.path / COSINES)

    name = f"report/measured-{encoder.name.partition('/')[2]}"
    settings = {"metrics": [METRIC, JUDGED], **({"graded": "every product"} if shop else {})}
    return run.step(name, build, settings=settings, inputs=[tables, encoder])


def judged_run(test: JudgedTables, cosines: npt.NDArray[np.float32]) -> dict[str, dict[str, float]]:
    """Return a run of the judged products of each query, by the cosine of each judged pair [pairs]."""
    ranked: dict[str, dict[str, float]] = {}
    for query, product, cosine in zip(
        *(test.judgements[name].to_pylist() for name in ("query_id", "product_id")), cosines.tolist(), strict=True
    ):
        ranked.setdefault(query, {})[product] = cosine
    return ranked


@dataclass(frozen=True)
class Measured:
    """The figures of a variant, as means over its seeds.

    - `ndcg`: `METRIC` of each test query, [queries].
    - `judged`: `JUDGED` of each test query, [queries].
    - `cosines`: of each judged test pair, [pairs].
    """

    ndcg: Values
    judged: Values
    cosines: npt.NDArray[np.float32]

    @classmethod
    def read(cls, store: Store, measured: Sequence[Artifact]) -> Self:
        """Read the artifacts of `measuring_step` for the same variant under each seed."""
        columns = [
            np.mean([pq.read_table(store.path(each.ref) / file)[name].to_numpy() for each in measured], axis=0)
            for file, name in ((NDCG, METRIC), (NDCG, JUDGED), (COSINES, "cosine"))
        ]
        return cls(*columns)

    def compare(self, baselines: "Mapping[str, Measured]", test: JudgedTables, seed: int) -> dict[str, Any]:
        """Return nDCG@10, under `minus` its difference to each baseline, and the same of the judged products alone.

        With them comes the average margin of grades 2 and 0.

        Each is mean, low and high, over queries.
        """
        margins: Mapping[str, Any] = measure_margins(test, {"": self.cosines}, seed)[""]["all"]

        def minus(of: str) -> dict[str, list[float]]:
            own = getattr(self, of)
            return {name: list(paired_difference(own, getattr(each, of), seed)) for name, each in baselines.items()}

        return {
            METRIC: list(bootstrap_mean(self.ndcg, seed)),
            "minus": minus("ndcg"),
            JUDGED: list(bootstrap_mean(self.judged, seed)),
            "minus_judged": minus("judged"),
            "margin": margins.get("average"),
        }
