from .binary_cross_entropy import weighted_binary_cross_entropy
from .circle import Boundaries, multi_class_circle
from .cross_entropy import weighted_cross_entropy
from .infonce import in_batch_infonce
from .moco import cluster_loss, instance_loss
from .supcon import label_weighted_supcon
from .temperature import Temperature
from .triplet import graded_triplet

__all__ = [
    "Boundaries",
    "Temperature",
    "cluster_loss",
    "graded_triplet",
    "in_batch_infonce",
    "instance_loss",
    "label_weighted_supcon",
    "multi_class_circle",
    "weighted_binary_cross_entropy",
    "weighted_cross_entropy",
]
