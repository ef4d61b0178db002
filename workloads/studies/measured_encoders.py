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
from raylevance.evaluation.intervals import Values, bootstrap_mean, paired_difference
from raylevance.evaluation.ranking_metrics import evaluate_run
from raylevance.inference.encoder import load as load_encoder
from workloads.run import Run
from workloads.steps.retrieval_report import measure_encoder, measure_margins

METRIC = "ndcg@10"
NDCG, COSINES = "ndcg.parquet", "cosines.parquet"


def measuring_step(run: Run, tables: Artifact, judged: JudgedTables, encoder: Artifact) -> Artifact:
    """Return `report/measured-<encoder>`: nDCG@10 of each test query and the cosine of each judged test pair.

    Queries are in the order of the tables and rank the whole catalogue, and so are the judged pairs.
    """

    def build(draft: Draft) -> None:
        test = judged.split(TEST)
        ranked, cosines = measure_encoder(run.store, test, load_encoder(run.store, encoder.ref))
        values = evaluate_run(ranked, test.judgements, [METRIC])[METRIC]
        draft.metrics[METRIC] = float(np.mean(values))
        pq.write_table(pa.table({METRIC: values}), draft.path / NDCG)
        pq.write_table(pa.table({"cosine": cosines}), draft.path / COSINES)

    name = f"report/measured-{encoder.name.partition('/')[2]}"
    return run.step(name, build, settings={"metric": METRIC}, inputs=[tables, encoder])


@dataclass(frozen=True)
class Measured:
    """The figures of a variant, as means over its seeds.

    - `ndcg`: nDCG@10 of each test query, [queries].
    - `cosines`: of each judged test pair, [pairs].
    """

    ndcg: Values
    cosines: npt.NDArray[np.float32]

    @classmethod
    def read(cls, store: Store, measured: Sequence[Artifact]) -> Self:
        """Read the artifacts of `measuring_step` for the same variant under each seed."""
        columns = [
            np.mean([pq.read_table(store.path(each.ref) / file)[name].to_numpy() for each in measured], axis=0)
            for file, name in ((NDCG, METRIC), (COSINES, "cosine"))
        ]
        return cls(*columns)

    def compare(self, baselines: "Mapping[str, Measured]", test: JudgedTables, seed: int) -> dict[str, Any]:
        """Return nDCG@10, under `minus` its difference to each baseline, and the average margin of grades 2 and 0.

        Each is mean, low and high, over queries.
        """
        margins: Mapping[str, Any] = measure_margins(test, {"": self.cosines}, seed)[""]["all"]
        differences = {name: paired_difference(self.ndcg, other.ndcg, seed) for name, other in baselines.items()}
        return {
            METRIC: list(bootstrap_mean(self.ndcg, seed)),
            "minus": {name: list(difference) for name, difference in differences.items()},
            "margin": margins.get("average"),
        }
