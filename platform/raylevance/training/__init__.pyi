from .settings import MachineSettings, TrainSettings
from .task import Task, TaskReplica, TextTask, WorkerContext
from .tasks.classification.task import Classification, ClassificationSettings
from .tasks.contrastive.task import Contrastive, ContrastiveSettings
from .tasks.grading import Grading, GradingSettings
from .tasks.item_retrieval.task import ItemRetrieval, ItemRetrievalSettings
from .tasks.moco.task import MoCo, MoCoSettings
from .tasks.relevance.task import Relevance, RelevanceSettings
from .trainer import TrainResult, check_settings, train

__all__ = [
    "Classification",
    "ClassificationSettings",
    "Contrastive",
    "ContrastiveSettings",
    "Grading",
    "GradingSettings",
    "ItemRetrieval",
    "ItemRetrievalSettings",
    "MachineSettings",
    "MoCo",
    "MoCoSettings",
    "Relevance",
    "RelevanceSettings",
    "Task",
    "TaskReplica",
    "TextTask",
    "TrainResult",
    "TrainSettings",
    "WorkerContext",
    "check_settings",
    "train",
]
