"""What makes two nodes look alike: the words of their texts, and their categories."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.hashing import hash_strings
from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.graph.csr import Csr

COMMON = 0.05
"""A word in more than this share of the nodes of a kind makes nothing alike (our choice)."""
FEW = 20
"""So many nodes may always share a word."""


@dataclass(frozen=True)
class Described:
    """Nodes of one kind: `texts` string [n], and `categories` list<string> [n] where they have any."""

    texts: pa.Array
    categories: pa.Array | None = None


def features(kinds: Sequence[Described]) -> list[Csr]:
    """For each kind a graph from its nodes to the features of all kinds, which are numbered alike."""
    found = [_hashed(kind) for kind in kinds]
    distinct = np.unique(np.concatenate([hashes for _, hashes in found]))
    graphs = []
    for kind, (nodes, hashes) in zip(kinds, found, strict=True):
        # A word that a text repeats is one feature.
        edges = np.unique(np.stack([nodes, np.searchsorted(distinct, hashes)]), axis=1)
        often = np.bincount(edges[1], minlength=len(distinct)) > max(COMMON * len(kind.texts), FEW)
        node, feature = edges[:, ~often[edges[1]]]
        graphs.append(Csr.from_edges(node, feature, np.ones(len(node)), (len(kind.texts), len(distinct))))
    return graphs


def _hashed(kind: Described) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and the hashes of their features, one entry each."""
    words = pc.split_pattern_regex(pc.fill_null(pc.utf8_lower(kind.texts), ""), r"[^\p{L}\p{N}]+")
    nodes, values = pc.list_parent_indices(words).to_numpy(), words.flatten()
    kept = pc.greater(pc.utf8_length(values), 1).to_numpy(zero_copy_only=False)
    node, hashes = nodes[kept], hash_strings(values)[kept]
    if kind.categories is not None:
        paths = pc.binary_join(kind.categories, CATEGORY_SEPARATOR)
        known = np.flatnonzero(pc.fill_null(pc.greater(pc.utf8_length(paths), 0), False).to_numpy(zero_copy_only=False))
        node = np.concatenate([node, known])
        hashes = np.concatenate([hashes, hash_strings(paths.take(pa.array(known)), seed=1)])
    return node, hashes
