from .agreement import accuracy_by_coverage, agreement_with_people, calibration, confusion_metrics
from .html_report import HtmlReport, render_html
from .intervals import bootstrap_mean, bootstrap_means, paired_difference
from .margins import query_margins, word_overlap
from .pair_metrics import auc_difference, best_threshold, bootstrap_pairs, evaluate_pairs
from .ranking_metrics import evaluate_run, read_run, write_qrels, write_run

__all__ = [
    "HtmlReport",
    "accuracy_by_coverage",
    "agreement_with_people",
    "auc_difference",
    "best_threshold",
    "bootstrap_mean",
    "bootstrap_means",
    "bootstrap_pairs",
    "calibration",
    "confusion_metrics",
    "evaluate_pairs",
    "evaluate_run",
    "paired_difference",
    "query_margins",
    "read_run",
    "render_html",
    "word_overlap",
    "write_qrels",
    "write_run",
]
