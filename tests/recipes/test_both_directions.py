"""Queries and items both learn from pairs of a query and an item, also where they share no weights."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.excluded_negatives import all_neighbours
from raylevance.graph.features import NodeTexts, node_features
from raylevance.graph.metapaths import PpmiSettings, direct_ppmi
from raylevance.graph.pairs import PairSettings
from raylevance.graph.sampling import PairShares, SamplingSettings, mix_pairs, pair_sources, sample_anchors
from raylevance.graph.walks import WalkSettings
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.moco.task import MoCo, MoCoSettings
from tests.conftest import WORDS
from workloads.steps.graph_texts import GraphTexts, best_queries

NODES = 12
ALONE = SamplingSettings(
    walks=WalkSettings(length=3),
    related=None,
    pairs=PairSettings(hard=0, easy=2),
    mix=PairShares(query_query=0, item_item=0, query_item=1),
)


@pytest.fixture
def nodes() -> GraphTexts:
    """Query i leads to the items i and i + 1, and no two queries or items share enough to be joined."""
    rows = np.repeat(np.arange(NODES), 2)
    columns = (rows + np.tile([0, 1], NODES)) % NODES
    edges = Csr.from_edges(rows, columns, np.tile([2.0, 1.0], NODES), (NODES, NODES))
    nothing = Csr.from_edges(np.zeros(0, int), np.zeros(0, int), np.zeros(0), (NODES, NODES))
    ids = (pa.array([f"{side}{number:02}" for number in range(NODES)]) for side in "qp")
    graph = BehaviourGraph(*ids, edges, nothing, nothing, direct_ppmi(edges, PpmiSettings()))
    queries, items = pa.array(WORDS[:NODES]), pa.array([f"{word} {WORDS[-1]}" for word in WORDS[:NODES]])
    return GraphTexts(graph, queries, items, pa.array([["Home"]] * NODES))


def mixed(nodes: GraphTexts) -> pa.Table:
    """Return the pairs of a query and an item that the recipe samples, alone."""
    features = tuple(node_features([NodeTexts(nodes.queries), NodeTexts(nodes.items)]))
    sources = pair_sources(nodes.graph, all_neighbours(nodes.graph), features, ALONE.walks, nodes.ppmi)
    everyone = np.arange(NODES)
    anchors = [np.flatnonzero(source.graphs.ppmi.degrees) for source in sources]
    assert [len(chosen) for chosen in anchors] == [0, 0, NODES, NODES] and (anchors[3] == everyone).all()
    found = [sample_anchors(source, chosen, ALONE.pairs, 0) for source, chosen in zip(sources, anchors, strict=True)]
    return mix_pairs(found, ALONE, seed=0)


def test_pairs_go_both_ways(nodes: GraphTexts) -> None:
    """Every pair is an edge, and each negative is of the kind of the positive and no neighbour of the anchor."""
    pairs = mixed(nodes).to_pylist()
    edges = set(zip(nodes.graph.edges.edge_rows().tolist(), nodes.graph.edges.indices.tolist(), strict=True))
    kinds = [pair["kind"] for pair in pairs]
    assert kinds.count("query-item") == kinds.count("item-query") >= NODES and len(set(kinds)) == 2
    drawn = 0
    for pair in pairs:
        turn = 1 if pair["kind"] == "query-item" else -1
        assert (pair["anchor"], pair["positive"])[::turn] in edges
        for negative in pair["negatives"]:
            assert (pair["anchor"], negative)[::turn] not in edges
            drawn += 1
    assert drawn > NODES


@pytest.mark.parametrize("projection", [None, 8], ids=["towers", "towers and heads"])
def test_both_towers_learn_from_pairs_of_a_query_and_an_item(
    nodes: GraphTexts, tiny_backbone: Path, tmp_path: Path, projection: int | None
) -> None:
    rows = nodes.contrast_rows(mixed(nodes), best_queries(nodes.graph, 5), all_neighbours(nodes.graph))
    pq.write_table(rows, tmp_path / "rows.parquet")
    settings = EncoderSettings(backbone=str(tiny_backbone), tied=False, projection=projection)
    Encoder.from_backbone(settings).save(tmp_path / "encoder")
    task = MoCo(tmp_path / "encoder", tmp_path / "rows.parquet", MoCoSettings(batch=rows.num_rows, queue=64))
    task.prepare(tmp_path)
    replica = task.open(None, WorkerContext(tmp_path, seed=0, batch_tokens=2_000))
    replica.train()
    replica.backward(0)
    learned = gradient_norms(replica.model)
    parts = ["query_tower", "item_tower", *(["query_head", "item_head"] if projection else [])]
    assert learned.keys() == set(parts)
    assert min(learned.values()) > 0.05 * max(learned.values())


def gradient_norms(encoder: torch.nn.Module) -> dict[str, float]:
    """Return the length of the gradient of each part that has one."""
    squares: dict[str, float] = {}
    for name, parameter in encoder.named_parameters():
        if parameter.grad is not None:
            part = name.partition(".")[0]
            squares[part] = squares.get(part, 0) + float(parameter.grad.square().sum())
    return {part: square**0.5 for part, square in squares.items()}
