"""Whether the probabilities mean what they say: the temperature that mends them, and how far they are off."""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from weldnet.evaluation.intervals import proportion
from weldnet.evaluation.metrics import Floats, Labels, cross_entropy

BOUNDS = (0.05, 20.0)
"""Of the temperature. Beyond them the data say only "as certain" or "as uncertain as can be"."""


def is_separated(logits: Floats, labels: Labels) -> bool:
    """Whether the true class has the highest logit, alone, in every image: then no temperature fits best."""
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return bool((logits[np.arange(len(labels)), labels] > others.max(axis=1)).all())


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature T within `BOUNDS` for which softmax(logits / T) has the least negative log-likelihood.

    It is convex in 1 / T, so there is one minimum. Where every image is right it falls for ever as T falls to 0: such
    images show no mistake and cannot tell how certain to be, and T stays 1.

    Args:
        logits: (N, C), N at least 1, of images that were not trained on.
        labels: (N,) indices.

    Returns:
        T, never worse than 1 on these images; above 1 it makes the probabilities less certain.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    if is_separated(logits, labels):
        return 1.0

    def measure(log_temperature: float) -> float:
        return float(cross_entropy(logits / np.exp(log_temperature), labels).mean())

    low, high = np.log(BOUNDS)
    found = minimize_scalar(measure, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if found.fun < measure(0.0) else 1.0


def reliability_bins(probabilities: Floats, labels: Labels, num_bins: int = 15) -> list[dict[str, Any]]:
    """Images by the probability of the class they are called, in bins of equal width, those without images too.

    Args:
        probabilities: (N, C).
        labels: (N,) indices.
        num_bins: at least 1.

    Returns:
        Of each bin, as plain types for JSON: `low` and `high`, above and at most which the confidence lies;
        `mean_confidence`, None without images; `accuracy`, see `proportion`.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.searchsorted(edges[1:-1], confidence, side="left")
    counts, hits = np.bincount(places, minlength=num_bins), np.bincount(places, right, num_bins)
    sums = np.bincount(places, confidence, num_bins)
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

    With few images it is above 0 by chance alone, even of perfect probabilities.

    Args:
        probabilities: (N, C), N at least 1.
        labels: (N,) indices.
        num_bins: of equal width, for the probability of the called class.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    bins = reliability_bins(probabilities, labels, num_bins)
    gaps = [abs(each["accuracy"]["k"] - each["accuracy"]["n"] * (each["mean_confidence"] or 0.0)) for each in bins]
    return float(sum(gaps) / len(labels))


def summarise_calibration(logits: Floats, labels: Labels, temperature: float) -> dict[str, Any]:
    """The figures before and after logits are divided by the temperature, as plain types for JSON.

    Args:
        logits: (N, C), N at least 1.
        labels: (N,) indices.

    Returns:
        `temperature`; `before` and `after`: `expected_calibration_error`, `brier_score`, `negative_log_likelihood` and
        `bins`, those of `reliability_bins`.
    """
    return {
        "temperature": temperature,
        "before": _summarise(logits, labels),
        "after": _summarise(logits / temperature, labels),
    }


def _summarise(logits: Floats, labels: Labels) -> dict[str, Any]:
    probabilities = softmax(logits, axis=1)
    return {
        "expected_calibration_error": expected_calibration_error(probabilities, labels),
        "brier_score": brier_score_loss(labels, probabilities, labels=range(logits.shape[1]), scale_by_half=False),
        "negative_log_likelihood": float(cross_entropy(logits, labels).mean()),
        "bins": reliability_bins(probabilities, labels),
    }
