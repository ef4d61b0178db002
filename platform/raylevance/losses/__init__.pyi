from .binary_cross_entropy import multi_label_cross_entropy, weighted_binary_cross_entropy
from .circle import Boundaries, multi_class_circle
from .cross_entropy import weighted_cross_entropy
from .infonce import in_batch_infonce
from .moco import cluster_loss, instance_loss
from .semi_labels import fuse_knowledge, soft_targets
from .supcon import label_weighted_supcon
from .temperature import Temperature
from .triplet import graded_triplet

__all__ = [
    "Boundaries",
    "Temperature",
    "cluster_loss",
    "fuse_knowledge",
    "graded_triplet",
    "in_batch_infonce",
    "instance_loss",
    "label_weighted_supcon",
    "multi_class_circle",
    "multi_label_cross_entropy",
    "soft_targets",
    "weighted_binary_cross_entropy",
    "weighted_cross_entropy",
]
