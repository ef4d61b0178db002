from .task import ItemRetrieval, ItemRetrievalSettings, ObjectiveWeights

__all__ = [
    "ItemRetrieval",
    "ItemRetrievalSettings",
    "ObjectiveWeights",
]
