from .evaluation import ClassificationEvaluation
from .task import Classification, ClassificationSettings

__all__ = [
    "Classification",
    "ClassificationEvaluation",
    "ClassificationSettings",
]
