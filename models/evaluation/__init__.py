"""Evaluation of predictions: AUC and classification metrics, their intervals, paired comparisons, patient leakage."""
