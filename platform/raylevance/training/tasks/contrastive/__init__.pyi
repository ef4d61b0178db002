from .ranking import RankingEvaluation
from .task import Contrastive, ContrastiveSettings

__all__ = [
    "Contrastive",
    "ContrastiveSettings",
    "RankingEvaluation",
]
