from .classification.evaluation import ClassificationEvaluation
from .classification.task import Classification, ClassificationSettings
from .contrastive.ranking import RankingEvaluation
from .contrastive.task import Contrastive, ContrastiveSettings
from .grading import Grading, GradingEvaluation, GradingSettings
from .item_retrieval.task import ItemRetrieval, ItemRetrievalSettings
from .moco.task import MoCo, MoCoSettings
from .relevance.task import Relevance, RelevanceSettings

__all__ = [
    "Classification",
    "ClassificationEvaluation",
    "ClassificationSettings",
    "Contrastive",
    "ContrastiveSettings",
    "Grading",
    "GradingEvaluation",
    "GradingSettings",
    "ItemRetrieval",
    "ItemRetrievalSettings",
    "MoCo",
    "MoCoSettings",
    "RankingEvaluation",
    "Relevance",
    "RelevanceSettings",
]
