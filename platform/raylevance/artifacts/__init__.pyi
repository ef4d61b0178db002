from .manifest import NAME, Artifact, digest, fingerprint, parse_reference
from .store import Draft, Store, flush

__all__ = ["NAME", "Artifact", "Draft", "Store", "digest", "fingerprint", "flush", "parse_reference"]
