from .task import Relevance, RelevanceSettings

__all__ = [
    "Relevance",
    "RelevanceSettings",
]
