"""Figures from logits (N, C) and labels (N,)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def softmax(logits: Floats) -> Floats:
    """Probabilities (N, C) of logits (N, C); each row sums to 1."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities


def cross_entropy(logits: Floats, labels: Labels) -> Floats:
    """The loss (N,) of each sample, in nats, unweighted and without label smoothing."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    loss: Floats = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return loss


def count_confusion(predicted: Labels, labels: Labels, num_classes: int) -> Labels:
    """int64 (C, C): rows are the true classes, columns the predicted ones."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def summarise(logits: Floats, labels: Labels, classes: Sequence[str]) -> dict[str, Any]:
    """The figures of one set of images, as plain types for JSON.

    Args:
        logits: (N, C), N at least 1.
        labels: (N,), indices into `classes`.
        classes: C names.

    Returns:
        `loss` (mean cross entropy in nats, uncalibrated), `accuracy`, `balanced_accuracy` (mean recall) and `macro_f1`
        over the classes that have images, `per_class` (precision, recall, f1, support; a share of nothing is null),
        `confusion_matrix`, `num_images`, `classes`, `not_measured` (the classes without an image).
    """
    confusion = count_confusion(logits.argmax(axis=1), labels, len(classes))
    return {"loss": float(cross_entropy(logits, labels).mean()), **summarise_confusion(confusion, classes)}


def summarise_confusion(confusion: Labels, classes: Sequence[str]) -> dict[str, Any]:
    """All of `summarise` that a confusion matrix (C, C) with at least one image holds: everything but the loss."""
    hits, support, guesses = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    per_class = {
        name: {
            "precision": _share(hits[i], guesses[i]),
            "recall": _share(hits[i], support[i]),
            "f1": _share(2 * hits[i], support[i] + guesses[i]),
            "support": int(support[i]),
        }
        for i, name in enumerate(classes)
    }
    measured = [row for row in per_class.values() if row["support"]]
    return {
        "accuracy": float(hits.sum() / confusion.sum()),
        "balanced_accuracy": float(np.mean([row["recall"] for row in measured])),
        "macro_f1": float(np.mean([row["f1"] for row in measured])),
        "per_class": per_class,
        "confusion_matrix": confusion.tolist(),
        "num_images": int(confusion.sum()),
        "classes": list(classes),
        "not_measured": [name for name, row in per_class.items() if not row["support"]],
    }


def _share(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
