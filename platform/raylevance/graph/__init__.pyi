from .alias import AliasTable
from .baskets import BasketFile
from .building import BehaviourGraph, GraphSettings, build_graph, merge_graph
from .csr import Csr
from .edges import EdgeWeights
from .label_graphs import cooccurrence_graph, fuse_graphs, hierarchy_graph, normalise, semantic_graph
from .metapaths import PpmiSettings
from .pairs import PairSettings
from .sampling import SamplingSettings
from .sharded_walks import walk_shards
from .walks import WalkSettings, walk

__all__ = [
    "AliasTable",
    "BasketFile",
    "BehaviourGraph",
    "Csr",
    "EdgeWeights",
    "GraphSettings",
    "PairSettings",
    "PpmiSettings",
    "SamplingSettings",
    "WalkSettings",
    "build_graph",
    "cooccurrence_graph",
    "fuse_graphs",
    "hierarchy_graph",
    "merge_graph",
    "normalise",
    "semantic_graph",
    "walk",
    "walk_shards",
]
