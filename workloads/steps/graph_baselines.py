"""Baselines of item retrieval that learn vectors on a graph: LightGCN, XSimGCL and GraphSAGE, with layers of
torch-geometric.

Their users, or the items around them, are nodes; the items are then ranked by the cosines of their vectors.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional

from raylevance.graph.csr import Csr

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.nn import LGConv, SAGEConv

Vectors = npt.NDArray[np.float32]

DIMENSION, STEPS, BATCH, RATE, DECAY = 64, 300, 4096, 5e-3, 1e-4
LIGHTGCN_LAYERS = 3
XSIMGCL_LAYERS, CONTRASTED_LAYER = 2, 0
NOISE, CONTRAST_WEIGHT, TEMPERATURE = 0.2, 0.2, 0.15
SAGE_LAYERS = 2


def lightgcn_vectors(choices: sp.csr_matrix, seed: int) -> Vectors:
    """Return unit vectors of the items by LightGCN, trained with BPR on `choices` [users, items].

    The vector of an item that nobody chose is 0, since the graph says nothing about it. Source: He et al. 2020 (arXiv
    2002.02126): 3 layers, 64 entries, the mean of all layers, decay 1e-4; steps and rate are our choice.
    """
    return _collaborative_vectors(choices, seed, noise=False)


def xsimgcl_vectors(choices: sp.csr_matrix, seed: int) -> Vectors:
    """Return unit vectors of the items by XSimGCL: LightGCN with noise in every layer, and a contrast of its first
    layer with the mean of all.

    The vector of an item that nobody chose is 0. Source: Yu et al. 2023 (arXiv 2209.02544): 2 layers, noise 0.2, weight
    0.2, temperature 0.15, as in SELFRec's settings; steps, rate and decay are those of LightGCN here, which is our
    choice.
    """
    return _collaborative_vectors(choices, seed, noise=True)


def graphsage_vectors(choices: sp.csr_matrix, neighbours: Csr, categories: npt.NDArray[np.int64], seed: int) -> Vectors:
    """Return unit vectors of the items by GraphSAGE over the graph of their neighbours, with BPR on items that the same
    user chose.

    An item begins as the sum of a vector of its own and one of its category. Source: Hamilton et al. 2017 (arXiv
    1706.02216), mean aggregation, 2 layers; loss and features are our choice.
    """
    generator = torch.Generator().manual_seed(seed)
    users, items = (torch.from_numpy(part.astype(np.int64)) for part in choices.nonzero())
    starts = torch.from_numpy(choices.indptr.astype(np.int64))
    sources = torch.from_numpy(np.repeat(np.arange(choices.shape[1]), np.diff(neighbours.indptr)))
    edges = torch.stack([torch.from_numpy(np.array(neighbours.indices, np.int64)), sources])
    kinds = torch.from_numpy(categories.copy())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        own, of_category = nn.Embedding(choices.shape[1], DIMENSION), nn.Embedding(int(kinds.max()) + 1, DIMENSION)
        for table in (own, of_category):
            nn.init.normal_(table.weight, std=0.1)
        layers: Any = nn.ModuleList([SAGEConv(DIMENSION, DIMENSION) for _ in range(SAGE_LAYERS)])

    def encode() -> Tensor:
        states = own.weight + of_category(kinds)
        for number, layer in enumerate(layers):
            states = layer(states, edges)
            states = functional.normalize(states.relu() if number < SAGE_LAYERS - 1 else states, dim=1)
        return torch.as_tensor(states)

    parameters = [*own.parameters(), *of_category.parameters(), *layers.parameters()]
    optimizer = torch.optim.Adam(parameters, RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        drawn = torch.randint(len(users), (BATCH,), generator=generator)
        first, counts = starts[users[drawn]], starts[users[drawn] + 1] - starts[users[drawn]]
        others = items[first + (torch.rand(BATCH, generator=generator) * counts).long()]
        negatives = torch.randint(choices.shape[1], (BATCH,), generator=generator)
        vectors = encode()
        better, worse = ((vectors[items[drawn]] * vectors[node]).sum(1) / TEMPERATURE for node in (others, negatives))
        different = others != items[drawn]
        loss = -(functional.logsigmoid(better - worse) * different).sum() / different.sum().clamp(min=1)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return np.asarray(encode().numpy(), np.float32)


def _collaborative_vectors(choices: sp.csr_matrix, seed: int, *, noise: bool) -> Vectors:
    users, items = (torch.from_numpy(part.astype(np.int64)) for part in choices.nonzero())
    size = choices.shape[0]
    items = items + size
    edges = torch.stack([torch.cat([users, items]), torch.cat([items, users])])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        table = nn.Embedding(sum(choices.shape), DIMENSION)
        nn.init.xavier_uniform_(table.weight)
    layer: Any = LGConv()

    def encode(noise_of: torch.Generator | None) -> list[Tensor]:
        """Return the states of all nodes after each layer, those of LightGCN with the ones before the first."""
        states = [] if noise else [table.weight]
        current = table.weight
        for _ in range(XSIMGCL_LAYERS if noise else LIGHTGCN_LAYERS):
            current = layer(current, edges)
            if noise_of is not None:
                drawn = torch.rand(current.shape, generator=noise_of)
                current = current + current.sign() * functional.normalize(drawn, dim=1) * NOISE
            states.append(current)
        return states

    optimizer = torch.optim.Adam(table.parameters(), RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        drawn = torch.randint(len(users), (BATCH,), generator=generator)
        negatives = torch.randint(choices.shape[1], (BATCH,), generator=generator) + size
        states = encode(generator if noise else None)
        vectors = torch.stack(states).mean(0)
        own = vectors[users[drawn]]
        better, worse = ((own * vectors[node]).sum(1) for node in (items[drawn], negatives))
        loss = -functional.logsigmoid(better - worse).mean()
        read = (table.weight[nodes].square().sum(1) for nodes in (users[drawn], items[drawn], negatives))
        loss = loss + DECAY / 2 * sum(part.mean() for part in read)
        if noise:
            for nodes in (users[drawn], items[drawn]):
                distinct = nodes.unique()
                loss = loss + CONTRAST_WEIGHT * contrast(vectors[distinct], states[CONTRASTED_LAYER][distinct])
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        trained = functional.normalize(torch.stack(encode(None)).mean(0)[size:], dim=1)
    found = np.asarray(trained.numpy(), np.float32)
    found[np.diff(choices.tocsc().indptr) == 0] = 0
    return found


def contrast(one: Tensor, other: Tensor) -> Tensor:
    """Return InfoNCE of two views [n, d] of the same nodes by cosine, over `TEMPERATURE`: a node's other view is its
    positive, those of the other nodes are negatives."""
    similar = functional.normalize(one, dim=1) @ functional.normalize(other, dim=1).T / TEMPERATURE
    return functional.cross_entropy(similar, torch.arange(len(one)))
