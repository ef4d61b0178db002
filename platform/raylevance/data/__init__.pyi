from .click_labels import labels_of_clicks
from .graded_instances import InstanceSettings, write_instances
from .graded_pairs import GradedPairs, pair_texts
from .groups import Groups
from .importing import import_tables
from .judged_tables import JudgedTables
from .label_files import read_labels
from .label_space import LabelSpace
from .product_labels import category_labels, column_labels, labels_of_products
from .query_labels import labels_of_judgements, merge_query_labels
from .schema import EVENTS, JUDGEMENTS, PRODUCTS, QUERIES
from .simulated_clicks import SimulationSettings, simulate_clicks
from .spelling import SpellingSettings
from .splits import check_leakage, split_by_query
from .text import ProductText, baseline_text, field_texts, full_text, normalised_query
from .title_labels import labels_of_titles
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
    "LabelSpace",
    "ProductText",
    "SimulationSettings",
    "SpellingSettings",
    "baseline_text",
    "category_labels",
    "check_leakage",
    "column_labels",
    "field_texts",
    "full_text",
    "import_tables",
    "labels_of_clicks",
    "labels_of_judgements",
    "labels_of_products",
    "labels_of_titles",
    "merge_query_labels",
    "normalised_query",
    "pair_texts",
    "read_labels",
    "read_table",
    "simulate_clicks",
    "split_by_query",
    "write_instances",
]
