from .encoder import Encoder, EncoderSettings
from .hybrid import Evidence, Hybrid
from .precision import autocast_dtype
from .relevance import RelevanceModel, RelevanceModelSettings

__all__ = [
    "Encoder",
    "EncoderSettings",
    "Evidence",
    "Hybrid",
    "RelevanceModel",
    "RelevanceModelSettings",
    "autocast_dtype",
]
