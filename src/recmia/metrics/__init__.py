"""Metrics of attacks and of lists, with intervals. No metric knows which attack gave the scores.

>>> import numpy as np
>>> auc(np.array([True, True, False, False]), np.array([3.0, 2.0, 2.0, 1.0])).value
0.875
"""

from recmia.metrics.catalogue import METRICS, Metric, MetricSpec, Runs, SeedRuns, mean_over_runs
from recmia.metrics.intervals import CONFIDENCE, Estimate, combine, folded, simultaneous
from recmia.metrics.roc import FALSE_POSITIVE_RATES, Roc, auc, balanced_accuracy, roc, tpr_at_fpr

__all__ = [
    "CONFIDENCE",
    "FALSE_POSITIVE_RATES",
    "METRICS",
    "Estimate",
    "Metric",
    "MetricSpec",
    "Roc",
    "Runs",
    "SeedRuns",
    "auc",
    "balanced_accuracy",
    "combine",
    "folded",
    "mean_over_runs",
    "roc",
    "simultaneous",
    "tpr_at_fpr",
]
