"""The items of a graph as the encoder reads them, by code: `i` is item i, `items + i` the same item as if it were new.

A new item has no id and no neighbours: it is known by its category, brand, price and text alone.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from raylevance.graph.item_graph import ItemGraph
from raylevance.graph.neighbour_sampling import NeighbourSampler
from raylevance.graph.random_numbers import initial_states
from raylevance.models.item_encoder import ItemEncoder
from raylevance.models.item_features import ItemVocabulary

Ints = npt.NDArray[np.int64]

ROWS_AT_ONCE = 8192
"""How many items are encoded at a time outside training."""


class ItemNodes:
    """The features and neighbours of the items of a graph.

    Texts are mapped from a file, so only the rows of a batch are in memory.
    """

    def __init__(self, graph: ItemGraph, vocabulary: ItemVocabulary, texts: Path | None) -> None:
        """Number the features of the items of `graph`. `texts` is a file of vectors, float32 [items, text_size]."""
        self.items = len(graph)
        self.features = vocabulary.numbers(graph.items)
        self.has_events = graph.items["first_time"].is_valid().to_numpy()
        self.texts = np.load(texts, mmap_mode="r") if texts else None
        self.neighbours = graph.neighbours
        self._sampler = NeighbourSampler(graph.neighbours)

    def embed(self, encoder: ItemEncoder, codes: Ints) -> torch.Tensor:
        """Return e of the items `codes` [n], [n, d]. An item without events has no id of its own either."""
        items = codes % self.items
        known = (codes < self.items) & self.has_events[items]
        ids = torch.from_numpy(np.where(known, items + 1, 0)).to(encoder.device)
        features = torch.from_numpy(self.features[items]).to(encoder.device)
        texts = None
        if self.texts is not None:
            texts = torch.from_numpy(np.asarray(self.texts[items], np.float32)).to(encoder.device)
        return encoder.embed(ids, features, texts)

    def encode(self, encoder: ItemEncoder, codes: Ints, view: "View") -> torch.Tensor:
        """Return h of the items `codes` [n] under a random `view`, [n, d], with sampled neighbours."""
        known = self._with_neighbours(encoder, codes)
        places, neighbours = self._sampler.sample(codes[known], view.neighbours, view.seed)
        targets = known[places]
        neighbours, kept = view.perturbed(neighbours, targets, codes, self.items)
        nodes, inverse = np.unique(np.concatenate([codes, neighbours[kept]]), return_inverse=True)
        x = self.embed(encoder, nodes)
        # The nodes that are asked for come first, each as often as it is asked for.
        own, others = inverse[: len(codes)], inverse[len(codes) :]
        x = torch.cat([x[torch.from_numpy(own)], x])
        edges = torch.from_numpy(np.stack([others + len(codes), targets[kept]])).to(encoder.device)
        vectors: torch.Tensor = encoder(x, edges)[: len(codes)]
        return vectors

    def _with_neighbours(self, encoder: ItemEncoder, codes: Ints) -> Ints:
        """Return the positions of the codes whose neighbours the encoder reads: those of items that are not new."""
        return np.flatnonzero((codes < self.items) & encoder.settings.neighbours)

    @torch.no_grad()
    def vectors(self, encoder: ItemEncoder, codes: Ints) -> npt.NDArray[np.float32]:
        """Return h of the items `codes` [n] from all their neighbours with their weights, float32 [n, d]."""
        parts = []
        for start in range(0, len(codes), ROWS_AT_ONCE):
            some = codes[start : start + ROWS_AT_ONCE]
            known = self._with_neighbours(encoder, some)
            positions = self.neighbours.edge_positions(some[known])
            targets = np.repeat(known, self.neighbours.degrees[some[known]])
            nodes, inverse = np.unique(self.neighbours.indices[positions], return_inverse=True)
            x = torch.cat([self.embed(encoder, some), self.embed(encoder, nodes.astype(np.int64))])
            edges = torch.from_numpy(np.stack([inverse + len(some), targets])).to(encoder.device)
            weights = torch.from_numpy(self.neighbours.weights[positions]).to(encoder.device)
            parts.append(encoder(x, edges, weights)[: len(some)].cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, encoder.settings.dimension), np.float32)


class View:
    """A random view of the graph: which neighbours are sampled, and which of them are dropped or exchanged."""

    def __init__(self, neighbours: int, drop_nodes: float, perturb_edges: float, seed: int) -> None:
        """Sample `neighbours` of each node, and see the graph without a share of its nodes and edges.

        - `drop_nodes`: share of the nodes that no node of the view hears.
        - `perturb_edges`: share of the edges of which half are dropped and half lead to a random node instead.
        """
        self.neighbours, self.seed = neighbours, seed
        self._drop_nodes, self._perturb_edges = drop_nodes, perturb_edges

    def perturbed(self, neighbours: Ints, targets: Ints, codes: Ints, items: int) -> tuple[Ints, Ints]:
        """Return the neighbours after edges are perturbed, [draws], and the positions of those that are kept.

        What happens to an edge depends on the seed, its target and its neighbour alone, so all draws of one edge are
        changed alike: otherwise an item with few neighbours would never lose one.
        """
        draws = initial_states(self.seed + 1, codes[targets] * np.int64(items) + neighbours)
        share = (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53
        exchanged = share < self._perturb_edges / 2
        other = (initial_states(self.seed + 2, draws.view(np.int64)) % np.uint64(items)).astype(np.int64)
        neighbours = np.where(exchanged, other, neighbours)
        dropped = (share >= self._perturb_edges / 2) & (share < self._perturb_edges)
        node = (initial_states(self.seed + 3, neighbours) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return neighbours, np.flatnonzero(~dropped & (node >= self._drop_nodes))
