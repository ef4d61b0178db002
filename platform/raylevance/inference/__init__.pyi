from . import encoder, judge, scorer, search
from .embeddings import embed_products
from .encoder import NamedEncoder
from .encoding import encode_texts, pair_cosines
from .judge import LoadedJudge
from .scorer import Scorer
from .search import ProductSearch, SearchVersions, TextSearch

__all__ = [
    "LoadedJudge",
    "NamedEncoder",
    "ProductSearch",
    "Scorer",
    "SearchVersions",
    "TextSearch",
    "embed_products",
    "encode_texts",
    "encoder",
    "judge",
    "pair_cosines",
    "scorer",
    "search",
]
