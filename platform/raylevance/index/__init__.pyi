from .filters import Filters
from .fusion import FusionSettings, fuse
from .grades import GradeBands, fit_grade_bands
from .hybrid_search import search_hybrid
from .lexical import LexicalIndex
from .lexical_fields import FieldWeights, LexicalSettings
from .mining import MiningSettings, mine_hard_pairs
from .products import Hit, ProductIndex, ProductIndexSettings
from .sharded_search import search_shards
from .transfer import NeighbourQueries
from .vectors import IndexSettings, VectorIndex

__all__ = [
    "FieldWeights",
    "Filters",
    "FusionSettings",
    "GradeBands",
    "Hit",
    "IndexSettings",
    "LexicalIndex",
    "LexicalSettings",
    "MiningSettings",
    "NeighbourQueries",
    "ProductIndex",
    "ProductIndexSettings",
    "VectorIndex",
    "fit_grade_bands",
    "fuse",
    "mine_hard_pairs",
    "search_hybrid",
    "search_shards",
]
