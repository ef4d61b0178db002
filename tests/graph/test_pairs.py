"""Pairs against the rules, spelt out on random graphs."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest

from raylevance.graph.alias import AliasTable
from raylevance.graph.csr import Csr
from raylevance.graph.pairs import PairSettings, Relation, Samples, sample_pairs
from raylevance.graph.walks import WalkSettings, walk

NODES, QUERIES = 40, 15
WALKS = WalkSettings(length=5, walks_per_node=12)
SETTINGS = PairSettings(positives=3, quantile=0.5, far=2, semi_hard=2, hard=2, easy=1)

Matrix = npt.NDArray[np.float64]


def graph_of(matrix: Matrix) -> Csr:
    rows, columns = np.nonzero(matrix)
    return Csr.from_edges(rows, columns, matrix[rows, columns], matrix.shape)


def random_matrix(shape: tuple[int, int], density: float, seed: int) -> Matrix:
    random = np.random.default_rng(seed)
    matrix: Matrix = (random.random(shape) < density) * random.uniform(0.1, 2, shape).round(1)
    return matrix


def same_kind() -> tuple[Relation, AliasTable]:
    """Items by items."""
    upper = np.triu(random_matrix((NODES, NODES), 0.1, 0), 1)
    graph, words = graph_of(upper + upper.T), graph_of(random_matrix((NODES, 12), 0.2, 1))
    related = graph_of(upper + upper.T + random_matrix((NODES, NODES), 0.1, 5))
    return Relation(graph, graph, related, words, words.transposed(), same=True), AliasTable.build(graph)


def two_kinds() -> tuple[Relation, AliasTable]:
    """Queries by items; PPMI knows a part of the edges."""
    edges = random_matrix((QUERIES, NODES - QUERIES), 0.15, 2)
    whole = np.zeros((NODES, NODES))
    whole[:QUERIES, QUERIES:] = edges
    whole[QUERIES:, :QUERIES] = edges.T
    words = graph_of(random_matrix((NODES - QUERIES, 12), 0.2, 3))
    queries = graph_of(random_matrix((QUERIES, 12), 0.2, 4))
    ppmi = graph_of(np.where(edges > 0.5, edges, 0))
    related = graph_of(edges + random_matrix(edges.shape, 0.1, 6))
    relation = Relation(ppmi, graph_of(edges), related, queries, words.transposed(), same=False, first_target=QUERIES)
    return relation, AliasTable.build(graph_of(whole))


def sampled(kind: str, seed: int = 0) -> tuple[Relation, npt.NDArray[np.int32], Samples]:
    relation, table = same_kind() if kind == "I-I" else two_kinds()
    anchors = np.arange(relation.ppmi.rows)
    walks = walk(table, anchors, WALKS, seed=0)
    return (
        relation,
        walks.reshape(len(anchors), -1, WALKS.length + 1),
        sample_pairs(walks, anchors, relation, SETTINGS, seed),
    )


@pytest.mark.parametrize("kind", ["I-I", "Q-I"])
def test_samples_follow_the_rules(kind: str) -> None:
    relation, walks, samples = sampled(kind)
    seen: Counter[str] = Counter()
    for anchor, own_walks in enumerate(walks):
        steps = [
            (int(node) - relation.first_target, step) for path in own_walks for step, node in enumerate(path) if step
        ]
        steps = [(node, step) for node, step in steps if 0 <= node < relation.ppmi.columns]
        visits, near = Counter(node for node, _ in steps), set(relation.near.row(anchor)[0].tolist())
        ppmi = dict(zip(*(values.tolist() for values in relation.ppmi.row(anchor)), strict=True))
        bar = np.quantile(list(ppmi.values()) or [0], SETTINGS.quantile)
        sure = [node for node in ppmi if ppmi[node] >= bar and visits[node] and not (relation.same and node == anchor)]
        expected = sorted(sure, key=lambda node: (-visits[node], node))[: SETTINGS.positives]
        assert [node for node in samples.positives[anchor].tolist() if node >= 0] == expected
        reached_late = {node for node in visits if min(step for other, step in steps if other == node) >= SETTINGS.far}
        words = set(relation.features.row(anchor)[0].tolist())
        related = set(relation.related.row(anchor)[0].tolist())
        alike = {node for word in words for node in relation.featured.row(word)[0].tolist()}
        for pair in range(SETTINGS.positives):
            semi, hard, easy = np.split(samples.negatives[anchor, pair], [2, 4])
            drawn = [node for node in samples.negatives[anchor, pair].tolist() if node >= 0]
            assert len(drawn) == len(set(drawn)) and not near & set(drawn)
            assert not relation.same or anchor not in drawn
            assert {node for node in semi.tolist() if node >= 0} <= reached_late
            assert {node for node in hard.tolist() if node >= 0} <= alike - set(visits) - related
            assert {node for node in easy.tolist() if node >= 0}.isdisjoint(related | set(visits))
            assert pair < len(expected) or not drawn
            seen.update(semi=int((semi >= 0).sum()), hard=int((hard >= 0).sum()), easy=int((easy >= 0).sum()))
    assert min(seen.values()) > 10


def test_an_anchor_draws_the_same_whoever_else_does() -> None:
    relation, walks, together = sampled("I-I")
    few = np.array([7, 2])
    alone = sample_pairs(walks[few].reshape(-1, WALKS.length + 1), few, relation, SETTINGS, seed=0)
    assert (alone.positives == together.positives[few]).all()
    assert (alone.negatives == together.negatives[few]).all()
    assert (sampled("I-I", seed=1)[2].negatives != together.negatives).any()


def test_hard_negatives_are_drawn_evenly_from_a_feature() -> None:
    """Anchor 0 has one positive, 1; all others share its one feature."""
    ppmi = graph_of(np.eye(10, k=1))
    words = graph_of(np.ones((10, 1)))
    relation = Relation(ppmi, ppmi, ppmi, words, words.transposed(), same=True)
    settings = PairSettings(positives=1, semi_hard=0, hard=1)
    walks = np.array([[0, 1]], np.int32)
    drawn = [
        int(sample_pairs(walks, np.array([0]), relation, settings, seed).negatives[0, 0, 0]) for seed in range(4000)
    ]
    counts = np.bincount(drawn, minlength=10)
    assert counts[:2].sum() == 0
    assert counts[2:] == pytest.approx(np.full(8, 500), abs=100)
