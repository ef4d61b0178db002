from .esci import read_esci
from .tables import read_tables
from .ubi import read_ubi
from .uci import read_uci
from .wands import read_wands

__all__ = [
    "read_esci",
    "read_tables",
    "read_ubi",
    "read_uci",
    "read_wands",
]
