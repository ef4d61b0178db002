from .agreement import accuracy_by_coverage, agreement_with_people, calibration, confusion_metrics
from .classification_metrics import (
    Predictions,
    confusion_by_parent,
    correct_at,
    evaluate_predictions,
    frequency_groups,
    join_predictions,
    label_matrix,
    metric_differences,
    predictions_of,
    top_label_calibration,
)
from .html_report import HtmlReport, render_html
from .intervals import bootstrap_mean, bootstrap_means, paired_difference
from .label_thresholds import choose_thresholds
from .margins import query_margins, word_overlap
from .pair_metrics import auc_difference, best_threshold, bootstrap_pairs, evaluate_pairs
from .ranking_metrics import evaluate_run, read_run, write_qrels, write_run
from .unseen_labels import choose_unseen_offset

__all__ = [
    "HtmlReport",
    "Predictions",
    "accuracy_by_coverage",
    "agreement_with_people",
    "auc_difference",
    "best_threshold",
    "bootstrap_mean",
    "bootstrap_means",
    "bootstrap_pairs",
    "calibration",
    "choose_thresholds",
    "choose_unseen_offset",
    "confusion_by_parent",
    "confusion_metrics",
    "correct_at",
    "evaluate_pairs",
    "evaluate_predictions",
    "evaluate_run",
    "frequency_groups",
    "join_predictions",
    "label_matrix",
    "metric_differences",
    "paired_difference",
    "predictions_of",
    "query_margins",
    "read_run",
    "render_html",
    "top_label_calibration",
    "word_overlap",
    "write_qrels",
    "write_run",
]
