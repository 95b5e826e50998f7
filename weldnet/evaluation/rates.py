"""Rates of confusion matrices: with exact intervals, and of resamples for the bootstrap."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from weldnet.evaluation.arrays import Floats, Labels
from weldnet.evaluation.bootstrap import Statistic
from weldnet.evaluation.intervals import proportion
from weldnet.evaluation.metrics import (
    BY_GROUP,
    CLASS_METRICS,
    ERRORS,
    METRICS,
    count_ratios,
    measure_confusion,
    measure_groups,
)

ONE_SIDED = tuple(metric.key for metric in ERRORS)
"""Whose upper bound alone is of interest."""

PROPORTIONS = {metric.key for metric in (*METRICS, *ERRORS, *CLASS_METRICS) if metric.kind == "proportion"}


def measure_proportions(
    confusion: Labels, classes: Sequence[str], good_classes: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """The proportions of one matrix (C, C) by name, see `count_ratios`, with their exact intervals of 95 %."""
    return {
        name: proportion(int(k), int(n), side="upper" if name in ONE_SIDED else "two-sided")
        for name, (k, n) in count_ratios(confusion, classes, good_classes).items()
        if name.partition("/")[0] in PROPORTIONS
    }


def resample_rates(
    predicted: Labels, labels: Labels, groups: Labels, classes: Sequence[str], good_classes: Collection[str] = ()
) -> Statistic:
    """The figures of `measure_confusion` of N resampled images, and the mean of `measure_groups`.

    Means are over the classes that have images at all. `groups` (N,) are indices of `metrics.index_groups`.
    """
    size, num_groups = len(classes), int(groups.max()) + 1
    counts = np.zeros((num_groups, size * size))
    np.add.at(counts, (groups, labels * size + predicted), 1)
    measured = [classes[i] for i in np.unique(labels)]
    within, present = measure_groups(predicted, labels, groups), np.unique(groups)

    def measure(weights: Floats) -> dict[str, Floats]:
        figures = measure_confusion((weights @ counts).reshape(-1, size, size), classes, good_classes, measured)
        drawn = weights[:, present]
        return figures | {BY_GROUP: drawn @ within / drawn.sum(axis=1)}

    return measure
