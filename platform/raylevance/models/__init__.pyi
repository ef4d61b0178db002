from .encoder import Encoder, EncoderSettings
from .hybrid import Evidence, Hybrid
from .precision import autocast_dtype
from .query_classifier import QueryClassifier, QueryClassifierSettings
from .relevance import RelevanceModel, RelevanceModelSettings

__all__ = [
    "Encoder",
    "EncoderSettings",
    "Evidence",
    "Hybrid",
    "QueryClassifier",
    "QueryClassifierSettings",
    "RelevanceModel",
    "RelevanceModelSettings",
    "autocast_dtype",
]
