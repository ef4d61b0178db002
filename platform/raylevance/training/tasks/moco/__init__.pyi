from .task import MoCo, MoCoSettings

__all__ = [
    "MoCo",
    "MoCoSettings",
]
