"""Metrics of rankings and of scored pairs, their confidence intervals, and the HTML report."""
