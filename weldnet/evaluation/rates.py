"""Rates of many confusion matrices at once: as counts for exact intervals, as a `Statistic` for the bootstrap.

Names are flat: `recall/crack` is of one class, `macro_recall` the mean over the classes that have images.
"""

from collections.abc import Collection, Sequence

import numpy as np

from weldnet.evaluation.bootstrap import Statistic
from weldnet.evaluation.intervals import Proportion, proportion
from weldnet.evaluation.metrics import Floats, Labels

ONE_SIDED = ("escapes", "false_calls")
"""Whose upper bound alone is of interest."""

_MEANS = {
    "precision": "macro_precision",
    "recall": "balanced_accuracy",
    "specificity": "macro_specificity",
    "f1": "macro_f1",
}


def count_rates(
    confusion: Floats, classes: Sequence[str], good_classes: Collection[str] = ()
) -> dict[str, tuple[Floats, Floats]]:
    """What each proportion is a share of.

    Args:
        confusion: (..., C, C) counts; rows are the true classes, columns the predicted ones.
        classes: C names.
        good_classes: those that are no defect; without any there are no escapes and no false calls.

    Returns:
        (k, n), each (...), of `accuracy`; of `precision/<class>`, `recall/<class>`, `specificity/<class>` (the share of
        the other classes' images that are not called this class); of `escapes` (of the images of defects those called
        good) and of `false_calls` (of the good images those called a defect).
    """
    hits, total = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1))
    support, guesses = confusion.sum(axis=-1), confusion.sum(axis=-2)
    counts: dict[str, tuple[Floats, Floats]] = {"accuracy": (hits.sum(axis=-1), total)}
    for i, name in enumerate(classes):
        others = total - support[..., i]
        counts[f"precision/{name}"] = hits[..., i], guesses[..., i]
        counts[f"recall/{name}"] = hits[..., i], support[..., i]
        counts[f"specificity/{name}"] = others - guesses[..., i] + hits[..., i], others
    if good_classes:
        fine = np.array([name in good_classes for name in classes])
        counts["escapes"] = confusion[..., ~fine, :][..., fine].sum(axis=(-2, -1)), support[..., ~fine].sum(axis=-1)
        counts["false_calls"] = confusion[..., fine, :][..., ~fine].sum(axis=(-2, -1)), support[..., fine].sum(axis=-1)
    return counts


def measure_proportions(
    confusion: Labels, classes: Sequence[str], good_classes: Collection[str] = (), confidence: float = 0.95
) -> dict[str, Proportion]:
    """The proportions of `count_rates` of one matrix (C, C) with their exact intervals.

    Those of `ONE_SIDED` have a one-sided upper bound.
    """
    return {
        name: proportion(int(k), int(n), confidence, "upper" if name in ONE_SIDED else "two-sided")
        for name, (k, n) in count_rates(confusion.astype(np.float64), classes, good_classes).items()
    }


def resample_rates(
    predicted: Labels, labels: Labels, groups: Labels, classes: Sequence[str], good_classes: Collection[str] = ()
) -> Statistic:
    """The proportions of `count_rates`, `f1/<class>`, and their means over the classes that have images.

    Args:
        predicted: (N,) indices into `classes`.
        labels: (N,) likewise.
        groups: (N,) indices of `bootstrap.index_groups`.
        classes: C names.
        good_classes: as for `count_rates`.

    Returns:
        A statistic that also gives `macro_precision`, `balanced_accuracy` (the mean recall), `macro_specificity` and
        `macro_f1`; each is NaN where the figure of one of its classes is. So are precision, recall and F1 of a class
        without images, though `count_rates` counts the calls that make such a precision 0 of n.
    """
    size, num_groups = len(classes), int(groups.max()) + 1
    cells = np.bincount((groups * size + labels) * size + predicted, minlength=num_groups * size * size)
    counts = cells.reshape(num_groups, size * size).astype(np.float64)
    measured = [name for i, name in enumerate(classes) if (labels == i).any()]

    def measure(weights: Floats) -> dict[str, Floats]:
        confusion = (weights @ counts).reshape(-1, size, size)
        rates = {name: _divide(k, n) for name, (k, n) in count_rates(confusion, classes, good_classes).items()}
        support, guesses = confusion.sum(axis=2), confusion.sum(axis=1)
        for i, name in enumerate(classes):
            rates[f"f1/{name}"] = _divide(2 * confusion[:, i, i], support[:, i] + guesses[:, i])
            for key in ("precision", "f1"):
                # Without an image of the class they are 0 whatever the classifier does.
                rates[f"{key}/{name}"][support[:, i] == 0] = np.nan
        for key, mean in _MEANS.items():
            rates[mean] = np.mean([rates[f"{key}/{name}"] for name in measured], axis=0)
        return rates

    return measure


def _divide(part: Floats, whole: Floats) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return share
