from . import encoder, item_table, judge, query_classifier, scorer, search
from .embeddings import embed_products
from .encoder import NamedEncoder
from .encoding import encode_texts, pair_cosines
from .item_table import Recommended, Recommender, TriggerLists
from .judge import LoadedJudge
from .query_classifier import LoadedClassifier, PredictedLabel
from .scorer import Scorer
from .search import ProductSearch, SearchVersions, TextSearch

__all__ = [
    "LoadedClassifier",
    "LoadedJudge",
    "NamedEncoder",
    "PredictedLabel",
    "ProductSearch",
    "Recommended",
    "Recommender",
    "Scorer",
    "SearchVersions",
    "TextSearch",
    "TriggerLists",
    "embed_products",
    "encode_texts",
    "encoder",
    "item_table",
    "judge",
    "pair_cosines",
    "query_classifier",
    "scorer",
    "search",
]
