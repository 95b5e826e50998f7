"""The table of metrics, and their values from confusion matrices and logits."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from weldnet.evaluation.arrays import Floats, Labels
from weldnet.evaluation.intervals import proportion

BY_GROUP = "balanced_accuracy_by_group"
"""The key of the mean of `measure_groups`."""


class Counts:
    """The counts of images that metrics are ratios of, from confusion matrices (..., C, C).

    Of each class, (..., C): `actual`, `predicted` and `right` images, and those of the `others`. Of all, (...): the
    `total`; `defects`, with `escapes` among them; `sound` welds, with `false_calls` among them.
    """

    def __init__(self, confusion: Floats | Labels, is_good: NDArray[np.bool_]) -> None:
        self.actual, self.predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
        self.right: Floats = np.diagonal(confusion, axis1=-2, axis2=-1)
        self.total = self.actual.sum(axis=-1)
        self.others = self.total[..., None] - self.actual
        self.defects = self.actual[..., ~is_good].sum(axis=-1)
        self.escapes = confusion[..., ~is_good, :][..., is_good].sum(axis=(-2, -1))
        self.sound = self.actual[..., is_good].sum(axis=-1)
        self.false_calls = confusion[..., is_good, :][..., ~is_good].sum(axis=(-2, -1))


Ratio = Callable[[Counts], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Metric:
    """One figure of a classifier.

    Attributes:
        key: its name in files, logs and monitors.
        label: its name on the page.
        kind: `proportion`, k of n images, which has an exact interval; `share`, from 0 to 1; or `number`.
        ratio: k and n of `Counts`, each (...), or (..., C) where each class has one; the metric is k / n. None where it
            is a mean over the classes, or needs scores.
        better: the direction in which it gets better.
        mean: of a metric of each class, the key of its mean over the classes.
        of_groups: whether it needs the group of each image, which no training batch has.
    """

    key: str
    label: str
    kind: Literal["proportion", "share", "number"]
    ratio: Ratio | None = None
    better: Literal["max", "min"] = "max"
    mean: str = ""
    of_groups: bool = False


def _exceed_chance(c: Counts) -> tuple[Floats, Floats]:
    """How many images beyond chance are right, and how many could be; both times the number of images."""
    chance = (c.actual * c.predicted).sum(axis=-1)
    return c.total * c.right.sum(axis=-1) - chance, c.total**2 - chance


def _count_right_others(c: Counts) -> tuple[Floats, Floats]:
    """The images of the other classes that are predicted as one of them, and all of these."""
    return c.others - c.predicted + c.right, c.others


METRICS = (
    Metric("accuracy", "Accuracy", "proportion", lambda c: (c.right.sum(axis=-1), c.total)),
    Metric("balanced_accuracy", "Balanced accuracy (mean recall)", "share"),
    Metric(BY_GROUP, "Balanced accuracy within each weld, mean", "share", of_groups=True),
    Metric("macro_f1", "Macro F1", "share"),
    Metric("kappa", "Cohen's kappa", "number", _exceed_chance),
    Metric("loss", "Loss, uncalibrated (nats)", "number", better="min"),
)
"""Of a set of images, in the order of every table; training logs them, too."""
ERRORS = (
    Metric("escapes", "Escapes: defects predicted as sound", "proportion", lambda c: (c.escapes, c.defects), "min"),
    Metric(
        "false_calls",
        "False calls: sound predicted as a defect",
        "proportion",
        lambda c: (c.false_calls, c.sound),
        "min",
    ),
)
"""Of a set of images whose good classes are known; their upper bound alone is of interest."""

RANKINGS = (Metric("macro_auroc", "Macro AUROC", "share"),)
"""Of the probabilities of a set of images, see `weldnet.evaluation.bootstrap`."""

CLASS_METRICS = (
    Metric("precision", "precision", "proportion", lambda c: (c.right, c.predicted), mean="macro_precision"),
    Metric("recall", "recall", "proportion", lambda c: (c.right, c.actual), mean="balanced_accuracy"),
    Metric("f1", "F1", "share", lambda c: (2 * c.right, c.actual + c.predicted), mean="macro_f1"),
    Metric("specificity", "specificity", "proportion", _count_right_others, mean="macro_specificity"),
    Metric("auroc", "AUROC", "share", mean="macro_auroc"),
    Metric("average_precision", "average precision", "share", mean="macro_average_precision"),
)
"""Of each class against the others."""

ONE_SIDED = tuple(metric.key for metric in ERRORS)
"""Whose upper bound alone is of interest."""

PROPORTIONS = {metric.key for metric in (*METRICS, *ERRORS, *CLASS_METRICS) if metric.kind == "proportion"}


def cross_entropy(logits: Floats, labels: Labels) -> Floats:
    """The loss (N,) of each image, in nats, unweighted and without label smoothing."""
    loss: Floats = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return loss


def count_ratios(
    confusion: Floats | Labels, classes: Sequence[str], good_classes: Collection[str] = ()
) -> dict[str, tuple[Floats, Floats]]:
    """k and n, each (...), of every metric that has a ratio; those of a class are called `<key>/<class>`.

    The rows of `confusion` (..., C, C) are the actual classes. Without good classes there are none of `ERRORS`.
    """
    counts = Counts(confusion, np.array([name in good_classes for name in classes]))
    metrics = (*METRICS, *ERRORS) if good_classes else METRICS
    ratios = {metric.key: metric.ratio(counts) for metric in metrics if metric.ratio}
    for metric in CLASS_METRICS:
        if metric.ratio:
            k, n = metric.ratio(counts)
            ratios |= {f"{metric.key}/{name}": (k[..., i], n[..., i]) for i, name in enumerate(classes)}
    return ratios


def measure_confusion(
    confusion: Floats | Labels,
    classes: Sequence[str],
    good_classes: Collection[str] = (),
    measured: Collection[str] | None = None,
) -> dict[str, Floats]:
    """Every metric (...) of confusion matrices, NaN where it is a share of nothing, and the means over the classes.

    The means are over the `measured` classes: those with images in the set of which the matrices are resamples, or, by
    None, in the one matrix. Whatever the classifier does, precision and F1 of a class without images are 0, so in a
    resample they are NaN.
    """
    figures = {
        name: np.divide(k, n, out=np.full(np.shape(n), np.nan), where=n > 0)
        for name, (k, n) in count_ratios(confusion, classes, good_classes).items()
    }
    actual = confusion.sum(axis=-1)
    if measured is None:
        measured = [name for i, name in enumerate(classes) if actual[i]]
    else:
        for key in ("precision", "f1"):
            for i, name in enumerate(classes):
                figures[f"{key}/{name}"][actual[..., i] == 0] = np.nan
    for metric in CLASS_METRICS:
        if metric.ratio:
            figures[metric.mean] = np.mean([figures[f"{metric.key}/{name}"] for name in measured], axis=0)
    return figures


def measure_proportions(
    confusion: Labels, classes: Sequence[str], good_classes: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """The proportions of one matrix (C, C) by name, see `count_ratios`, with their exact intervals of 95 %."""
    return {
        name: proportion(int(k), int(n), side="upper" if name in ONE_SIDED else "two-sided")
        for name, (k, n) in count_ratios(confusion, classes, good_classes).items()
        if name.partition("/")[0] in PROPORTIONS
    }


def measure_groups(predicted: Labels, labels: Labels, groups: Labels) -> Floats:
    """The balanced accuracy (G,) within each of G groups, rising: the mean recall of the classes that it has images of.

    From the predicted and actual classes and the groups, as of `index_groups`, of N images.
    """
    num_classes = int(labels.max()) + 1
    pairs, indices = np.unique(groups * num_classes + labels, return_inverse=True)
    recalls = np.bincount(indices, predicted == labels) / np.bincount(indices)
    _, owners = np.unique(pairs // num_classes, return_inverse=True)
    means: Floats = np.bincount(owners, recalls) / np.bincount(owners)
    return means


def index_groups(groups: Sequence[str | None]) -> tuple[list[str], Labels]:
    """The sorted names (G,) of the groups of N images, and the index (N,) of each image's.

    An image whose group is unknown is a group of its own.
    """
    named = [group or f"\0{row}" for row, group in enumerate(groups)]
    names, indices = np.unique(np.asarray(named, np.str_), return_inverse=True)
    return names.tolist(), indices


def summarise(logits: Floats, labels: Labels, classes: Sequence[str], groups: Sequence[str | None]) -> dict[str, Any]:
    """Of N images: `loss` (mean cross entropy, uncalibrated), `balanced_accuracy_by_group` (the mean over the groups of
    `measure_groups`), and the keys of `summarise_confusion`."""
    # Importing it takes longer than the commands that only show figures.
    from sklearn.metrics import confusion_matrix

    predicted = logits.argmax(axis=1)
    return {
        "loss": float(cross_entropy(logits, labels).mean()),
        BY_GROUP: float(measure_groups(predicted, labels, index_groups(groups)[1]).mean()),
        **summarise_confusion(confusion_matrix(labels, predicted, labels=range(len(classes))), classes),
    }


def summarise_confusion(confusion: Labels, classes: Sequence[str]) -> dict[str, Any]:
    """What a confusion matrix (C, C) with at least one image holds, as plain types for JSON.

    `METRICS` by key, means over the classes that have images; `per_class` (`CLASS_METRICS` and support), `num_images`,
    `confusion_matrix`, `classes`, `not_measured` (the classes without an image). A share of nothing is None.
    """
    figures, support = measure_confusion(confusion, classes), confusion.sum(axis=1).tolist()
    keys = [metric.key for metric in CLASS_METRICS if metric.ratio]
    return {
        **{metric.key: make_plain(figures[metric.key]) for metric in METRICS if metric.key in figures},
        "per_class": {
            name: {key: make_plain(figures[f"{key}/{name}"]) for key in keys} | {"support": number}
            for name, number in zip(classes, support, strict=True)
        },
        "confusion_matrix": confusion.tolist(),
        "num_images": int(confusion.sum()),
        "classes": list(classes),
        "not_measured": [name for name, number in zip(classes, support, strict=True) if not number],
    }


def make_plain(value: float | Floats) -> float | None:
    """A number for JSON: None for NaN."""
    return None if np.isnan(value) else float(value)


def show_figure(value: float | None) -> str:
    """A figure with four decimals, `-` where there is none."""
    return "-" if value is None else f"{value:.4f}"
