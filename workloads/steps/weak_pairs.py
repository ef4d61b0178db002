"""Sample weak pairs from a behaviour graph, as rows for momentum contrast."""

import pyarrow.parquet as pq
from pydantic import PositiveInt

from raylevance.artifacts import Artifact, Draft
from raylevance.errors import RaylevanceError
from raylevance.graph.excluded_negatives import find_excluded_negatives
from raylevance.graph.sampling import PAIR_KINDS, SamplingSettings, mix_pairs, pair_sources, sample_on_cluster
from raylevance.progress import status
from workloads.steps.graph_texts import best_queries
from workloads.steps.weak_data import WeakData

PAIRS, ROWS = "pairs.parquet", "rows"
ROWS_PER_FILE = 100_000


class WeakPairSettings(SamplingSettings):
    """How pairs are sampled from a behaviour graph, and how items are clustered."""

    cluster: PositiveInt = 5
    """The number of queries of highest PPMI whose centroid represents an item."""


def weak_pairs_step(data: WeakData, settings: WeakPairSettings, name: str) -> Artifact:
    """Return the artifact `name`: pairs of nodes sampled from the behaviour graph, and their texts as rows for MoCo."""
    seed, source = data.trainer.seed, data.graph.metrics["source"]

    def build(draft: Draft) -> None:
        nodes = data.graph_texts()
        related = find_excluded_negatives(nodes.graph, settings.related, seed)
        found = [
            sample_on_cluster(pair_source, settings.pairs, seed)
            for pair_source in pair_sources(nodes.graph, related, nodes.features(), settings.walks, nodes.ppmi)
        ]
        pairs = mix_pairs(found, settings, seed)
        if not pairs.num_rows:
            raise RaylevanceError("the behaviour graph gives no pair: lower the behaviour.ppmi settings")
        pq.write_table(pairs, draft.path / PAIRS)
        (draft.path / ROWS).mkdir()
        best = best_queries(nodes.graph, settings.cluster, nodes.ppmi.shift)
        for number, start in enumerate(range(0, pairs.num_rows, ROWS_PER_FILE)):
            rows = nodes.contrast_rows(pairs.slice(start, ROWS_PER_FILE), best, related)
            pq.write_table(rows, draft.path / ROWS / f"part-{number:06d}.parquet")
        counts = {kind: part.num_rows for kind, part in zip(PAIR_KINDS, found, strict=True)}
        draft.metrics |= {
            "found": counts,
            "pairs": pairs.num_rows,
            "related": float(related.degrees.mean()),
            "source": source,
        }
        status(f"weak pairs: {pairs.num_rows} of {counts}, from {source}")

    described = {**dict(settings), "text": data.text, "kinds": PAIR_KINDS}
    return data.run.step(name, build, settings=described, inputs=[data.tables, data.graph], seed=seed)
