"""Calibration: the temperature that corrects the probabilities, and how far off they are."""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from weldnet.evaluation.arrays import Floats, Labels
from weldnet.evaluation.intervals import proportion
from weldnet.evaluation.metrics import cross_entropy

BOUNDS = (0.05, 20.0)
"""Limits of the temperature. Beyond them the data only ask for "as certain" or "as uncertain as possible"."""


def is_separated(logits: Floats, labels: Labels) -> bool:
    """Whether the actual class has the highest logit, alone, in every image: then no temperature fits best."""
    is_actual = np.arange(logits.shape[1]) == labels[:, None]
    return bool((logits[is_actual] > np.where(is_actual, -np.inf, logits).max(axis=1)).all())


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature T within `BOUNDS` for which softmax(logits / T) has the least negative log-likelihood.

    It is convex in 1 / T, so there is one minimum. Where every image is right it falls for ever as T falls to 0: such
    images show no mistake, so they cannot determine T, and it stays 1. T is never worse than 1 on these images (N,
    at least 1), which must not be trained on.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    if is_separated(logits, labels):
        return 1.0

    def measure(log_temperature: float) -> float:
        return float(cross_entropy(logits / np.exp(log_temperature), labels).mean())

    found = minimize_scalar(measure, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if found.fun < measure(0.0) else 1.0


def reliability_bins(probabilities: Floats, labels: Labels, num_bins: int = 15) -> list[dict[str, Any]]:
    """Images by the probability of their predicted class, in bins of equal width, as plain types for JSON.

    Each has `low` (excluded), `high`, `mean_confidence` (None without images) and `accuracy`, see `proportion`.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    confidence, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.searchsorted(edges[1:-1], confidence, side="left")
    counts, hits, sums = (np.bincount(bins, weights, num_bins) for weights in (None, is_right, confidence))
    return [
        {
            "low": low,
            "high": high,
            "mean_confidence": float(total / n) if n else None,
            "accuracy": proportion(int(k), int(n)),
        }
        for low, high, total, k, n in zip(edges[:-1].tolist(), edges[1:].tolist(), sums, hits, counts, strict=True)
    ]


def expected_calibration_error(probabilities: Floats, labels: Labels, num_bins: int = 15) -> float:
    """The mean over the images of |accuracy - mean confidence| of their bin, from 0 to 1.

    With few images it is above 0 by chance alone, even of perfect probabilities. Guo et al., equation 3.
    """
    bins = reliability_bins(probabilities, labels, num_bins)
    gaps = [abs(each["accuracy"]["k"] - each["accuracy"]["n"] * (each["mean_confidence"] or 0.0)) for each in bins]
    return float(sum(gaps) / len(labels))


def summarise_calibration(logits: Floats, labels: Labels, temperature: float) -> dict[str, Any]:
    """`temperature`, and the figures `before` and `after` logits are divided by it, as plain types for JSON."""

    def measure(scaled: Floats) -> dict[str, Any]:
        probabilities = softmax(scaled, axis=1)
        brier = brier_score_loss(labels, probabilities, labels=range(scaled.shape[1]), scale_by_half=False)
        return {
            "expected_calibration_error": expected_calibration_error(probabilities, labels),
            "brier_score": brier,
            "negative_log_likelihood": float(cross_entropy(scaled, labels).mean()),
            "bins": reliability_bins(probabilities, labels),
        }

    return {"temperature": temperature, "before": measure(logits), "after": measure(logits / temperature)}
