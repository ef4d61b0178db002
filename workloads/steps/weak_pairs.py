"""Weak pairs: what a behaviour graph says belongs together, as rows for MoCo's task."""

import pyarrow.parquet as pq
from pydantic import PositiveInt

from raylevance.artifacts import Artifact, Draft
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.graph.related import related_on_cluster
from raylevance.graph.sampling import KINDS, SamplingSettings, grounds, mixed, sample_on_cluster
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.graph_texts import Nodes, best_queries

PAIRS, ROWS = "pairs.parquet", "rows"
ROWS_PER_FILE = 100_000


class WeakPairSettings(SamplingSettings):
    """`cluster`: the queries, of highest PPMI, whose centroid stands for an item."""

    cluster: PositiveInt = 5


def weak_pairs_step(
    run: Run,
    tables: Artifact,
    graph: Artifact,
    text: ProductText,
    settings: WeakPairSettings,
    seed: int,
    name: str = "pairs/weak",
) -> Artifact:
    """`pairs/weak`: sampled pairs by number, and as texts the rows that MoCo is trained on."""

    def build(draft: Draft) -> None:
        nodes = Nodes.read(run.store.path(tables.ref), run.store.path(graph.ref), text)
        related = related_on_cluster(nodes.graph, settings.related, seed)
        found = [
            sample_on_cluster(ground, settings.pairs, seed)
            for ground in grounds(nodes.graph, related, nodes.features(), settings.walks)
        ]
        pairs = mixed(found, settings, seed)
        if not pairs.num_rows:
            raise RaylevanceError("the behaviour graph gives no pair: it is too sparse; lower behaviour.ppmi settings")
        pq.write_table(pairs, draft.path / PAIRS)
        (draft.path / ROWS).mkdir()
        best = best_queries(nodes.graph, settings.cluster)
        for number, start in enumerate(range(0, pairs.num_rows, ROWS_PER_FILE)):
            rows = nodes.contrast_rows(pairs.slice(start, ROWS_PER_FILE), best, related)
            pq.write_table(rows, draft.path / ROWS / f"part-{number:06d}.parquet")
        counts = {kind: part.num_rows for kind, part in zip(KINDS, found, strict=True)}
        draft.metrics |= {
            "found": counts,
            "pairs": pairs.num_rows,
            "related": float(related.degrees.mean()),
            "source": graph.metrics["source"],
        }
        status(f"weak pairs: {pairs.num_rows} of {counts}, from {graph.metrics['source']}")

    made_from = settings.model_dump(mode="json") | {"text": text.model_dump(mode="json")}
    return run.step(name, build, settings=made_from, inputs=[tables, graph], seed=seed)
