from . import encoder, judge, query_classifier, scorer, search
from .embeddings import embed_products
from .encoder import NamedEncoder
from .encoding import encode_texts, pair_cosines
from .judge import LoadedJudge
from .query_classifier import Prediction, QueryLabels
from .scorer import Scorer
from .search import ProductSearch, SearchVersions, TextSearch

__all__ = [
    "LoadedJudge",
    "NamedEncoder",
    "Prediction",
    "ProductSearch",
    "QueryLabels",
    "Scorer",
    "SearchVersions",
    "TextSearch",
    "embed_products",
    "encode_texts",
    "encoder",
    "judge",
    "pair_cosines",
    "query_classifier",
    "scorer",
    "search",
]
