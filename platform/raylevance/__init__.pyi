from .artifacts import Artifact, Store, fingerprint, parse_reference
from .cluster import connected
from .config import Settings, load_settings
from .errors import RaylevanceError, UsageError

__version__: str

__all__ = [
    "Artifact",
    "RaylevanceError",
    "Settings",
    "Store",
    "UsageError",
    "connected",
    "fingerprint",
    "load_settings",
    "parse_reference",
]
