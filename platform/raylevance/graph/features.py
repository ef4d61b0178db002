"""Features that two nodes may share: the words of their texts, and their categories."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.hashing import hash_strings
from raylevance.data.normal_form import normal_form_column
from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.graph.csr import Csr

MAX_NODE_SHARE = 0.05
"""A feature of more than this share of the nodes of one kind is ignored as too common (our choice)."""

ALWAYS_KEPT_NODES = 20
"""A feature of at most this many nodes is never too common."""


@dataclass(frozen=True)
class NodeTexts:
    """The texts of the nodes of one kind: `texts` string [n] and, if they have any, `categories` list<string> [n]."""

    texts: pa.Array
    categories: pa.Array | None = None


def node_features(kinds: Sequence[NodeTexts]) -> list[Csr]:
    """Return one graph for each kind, from its nodes to the features of all kinds.

    A feature has the same number in all graphs, so nodes of different kinds can be compared.
    """
    hashed = [_hash_features(kind) for kind in kinds]
    distinct = np.unique(np.concatenate([hashes for _, hashes in hashed]))
    graphs = []
    for kind, (nodes, hashes) in zip(kinds, hashed, strict=True):
        # A word that a text repeats is one feature.
        edges = np.unique(np.stack([nodes, np.searchsorted(distinct, hashes)]), axis=1)
        limit = max(MAX_NODE_SHARE * len(kind.texts), ALWAYS_KEPT_NODES)
        too_common = np.bincount(edges[1], minlength=len(distinct)) > limit
        node, feature = edges[:, ~too_common[edges[1]]]
        graphs.append(Csr.from_edges(node, feature, np.ones(len(node)), (len(kind.texts), len(distinct))))
    return graphs


def _hash_features(kind: NodeTexts) -> tuple[np.ndarray, np.ndarray]:
    """Return a node and the hash of one of its features for each occurrence of a feature."""
    words = pc.split_pattern_regex(pc.fill_null(normal_form_column(kind.texts), ""), r"[^\p{L}\p{N}]+")
    nodes, values = pc.list_parent_indices(words).to_numpy(), words.flatten()
    long_enough = pc.greater(pc.utf8_length(values), 1).to_numpy(zero_copy_only=False)
    node, hashes = nodes[long_enough], hash_strings(values)[long_enough]
    if kind.categories is not None:
        paths = pc.binary_join(kind.categories, CATEGORY_SEPARATOR)
        has_path = pc.fill_null(pc.greater(pc.utf8_length(paths), 0), False).to_numpy(zero_copy_only=False)
        categorised = np.flatnonzero(has_path)
        node = np.concatenate([node, categorised])
        hashes = np.concatenate([hashes, hash_strings(paths.take(pa.array(categorised)), seed=1)])
    return node, hashes
