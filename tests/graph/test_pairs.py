"""Tests of sampled pairs against the rules, written out plainly, on random graphs."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest

from raylevance.graph.alias import AliasTable
from raylevance.graph.csr import Csr
from raylevance.graph.pairs import PairGraphs, PairSettings, SampledPairs, sample_pairs
from raylevance.graph.walks import WalkSettings, walk

NODES, QUERIES = 40, 15
WALKS = WalkSettings(length=5, walks_per_node=12)
SETTINGS = PairSettings(positives=3, quantile=0.5, hard=2, easy=1)

Matrix = npt.NDArray[np.float64]


def graph_of(matrix: Matrix) -> Csr:
    rows, columns = np.nonzero(matrix)
    return Csr.from_edges(rows, columns, matrix[rows, columns], matrix.shape)


def random_matrix(shape: tuple[int, int], density: float, seed: int) -> Matrix:
    random = np.random.default_rng(seed)
    matrix: Matrix = (random.random(shape) < density) * random.uniform(0.1, 2, shape).round(1)
    return matrix


def same_kind() -> tuple[PairGraphs, AliasTable]:
    """Return the graphs of item-item pairs, and a table to walk on."""
    upper = np.triu(random_matrix((NODES, NODES), 0.1, 0), 1)
    graph, words = graph_of(upper + upper.T), graph_of(random_matrix((NODES, 12), 0.2, 1))
    excluded = graph_of(upper + upper.T + random_matrix((NODES, NODES), 0.1, 5))
    graphs = PairGraphs(
        ppmi=graph,
        excluded_negatives=excluded,
        anchor_features=words,
        feature_targets=words.transposed(),
        same_kind=True,
    )
    return graphs, AliasTable.build(graph)


def two_kinds() -> tuple[PairGraphs, AliasTable]:
    """Return the graphs of query-item pairs, where only some edges have PPMI, and a table to walk on."""
    edges = random_matrix((QUERIES, NODES - QUERIES), 0.15, 2)
    whole = np.zeros((NODES, NODES))
    whole[:QUERIES, QUERIES:] = edges
    whole[QUERIES:, :QUERIES] = edges.T
    words = graph_of(random_matrix((NODES - QUERIES, 12), 0.2, 3))
    queries = graph_of(random_matrix((QUERIES, 12), 0.2, 4))
    ppmi = graph_of(np.where(edges > 0.5, edges, 0))
    graphs = PairGraphs(
        ppmi=ppmi,
        excluded_negatives=graph_of(edges + random_matrix(edges.shape, 0.1, 6)),
        anchor_features=queries,
        feature_targets=words.transposed(),
        same_kind=False,
        first_target=QUERIES,
    )
    return graphs, AliasTable.build(graph_of(whole))


def sampled(kind: str, seed: int = 0) -> tuple[PairGraphs, npt.NDArray[np.int32], SampledPairs]:
    graphs, table = same_kind() if kind == "I-I" else two_kinds()
    anchors = np.arange(graphs.ppmi.rows)
    walks = walk(table, anchors, WALKS, seed=0)
    return (
        graphs,
        walks.reshape(len(anchors), -1, WALKS.length + 1),
        sample_pairs(walks, anchors, graphs, SETTINGS, seed),
    )


@pytest.mark.parametrize("kind", ["I-I", "Q-I"])
def test_samples_follow_the_rules(kind: str) -> None:
    graphs, walks, samples = sampled(kind)
    seen: Counter[str] = Counter()
    for anchor, own_walks in enumerate(walks):
        steps = [int(node) - graphs.first_target for path in own_walks for node in path[1:]]
        steps = [node for node in steps if 0 <= node < graphs.ppmi.columns]
        visits = Counter(steps)
        ppmi = dict(zip(*(values.tolist() for values in graphs.ppmi.row(anchor)), strict=True))
        bar = np.quantile(list(ppmi.values()) or [0], SETTINGS.quantile)
        sure = [
            node for node in ppmi if ppmi[node] >= bar and visits[node] and not (graphs.same_kind and node == anchor)
        ]
        expected = sorted(sure, key=lambda node: (-visits[node], node))[: SETTINGS.positives]
        assert [node for node in samples.positives[anchor].tolist() if node >= 0] == expected
        words = set(graphs.anchor_features.row(anchor)[0].tolist())
        excluded = set(graphs.excluded_negatives.row(anchor)[0].tolist())
        alike = {node for word in words for node in graphs.feature_targets.row(word)[0].tolist()}
        for pair in range(SETTINGS.positives):
            hard, easy = np.split(samples.negatives[anchor, pair], [2])
            drawn = [node for node in samples.negatives[anchor, pair].tolist() if node >= 0]
            assert len(drawn) == len(set(drawn)) and not (excluded | set(visits)) & set(drawn)
            assert not graphs.same_kind or anchor not in drawn
            assert {node for node in hard.tolist() if node >= 0} <= alike
            assert pair < len(expected) or not drawn
            seen.update(hard=int((hard >= 0).sum()), easy=int((easy >= 0).sum()))
    assert min(seen.values()) > 10


def test_the_pairs_of_an_anchor_do_not_depend_on_other_anchors() -> None:
    graphs, walks, together = sampled("I-I")
    few = np.array([7, 2])
    subset = sample_pairs(walks[few].reshape(-1, WALKS.length + 1), few, graphs, SETTINGS, seed=0)
    assert (subset.positives == together.positives[few]).all()
    assert (subset.negatives == together.negatives[few]).all()
    assert (sampled("I-I", seed=1)[2].negatives != together.negatives).any()


def test_hard_negatives_are_drawn_evenly_from_a_feature() -> None:
    """Anchor 0 has one positive, node 1, and one feature, which all nodes have."""
    ppmi = graph_of(np.eye(10, k=1))
    words = graph_of(np.ones((10, 1)))
    graphs = PairGraphs(
        ppmi=ppmi,
        excluded_negatives=ppmi,
        anchor_features=words,
        feature_targets=words.transposed(),
        same_kind=True,
    )
    settings = PairSettings(positives=1, hard=1)
    walks = np.array([[0, 1]], np.int32)
    drawn = [int(sample_pairs(walks, np.array([0]), graphs, settings, seed).negatives[0, 0, 0]) for seed in range(4000)]
    counts = np.bincount(drawn, minlength=10)
    assert counts[:2].sum() == 0
    assert counts[2:] == pytest.approx(np.full(8, 500), abs=100)
