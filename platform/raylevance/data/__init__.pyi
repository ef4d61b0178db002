from .graded_instances import InstanceSettings, write_instances
from .graded_pairs import GradedPairs, pair_texts
from .groups import Groups
from .importing import import_tables
from .judged_tables import JudgedTables
from .schema import EVENTS, JUDGEMENTS, PRODUCTS, QUERIES
from .simulated_clicks import SimulationSettings, simulate_clicks
from .spelling import SpellingSettings
from .splits import check_leakage, split_by_query
from .text import ProductText, baseline_text, field_texts, full_text, normalised_query
from .whole_table import read_table

__all__ = [
    "EVENTS",
    "JUDGEMENTS",
    "PRODUCTS",
    "QUERIES",
    "GradedPairs",
    "Groups",
    "InstanceSettings",
    "JudgedTables",
    "ProductText",
    "SimulationSettings",
    "SpellingSettings",
    "baseline_text",
    "check_leakage",
    "field_texts",
    "full_text",
    "import_tables",
    "normalised_query",
    "pair_texts",
    "read_table",
    "simulate_clicks",
    "split_by_query",
    "write_instances",
]
