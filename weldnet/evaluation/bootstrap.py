"""A bootstrap that resamples whole groups (welds), because photographs of one weld are not independent.

A figure is whatever a `Statistic` makes of how often each group is drawn. Source: Davison and Hinkley, Bootstrap
Methods and their Application (1997), 3.8 (whole clusters) and 5.3 (percentiles).
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weldnet.evaluation.arrays import Floats, Labels
from weldnet.evaluation.intervals import Side, describe_bounds
from weldnet.evaluation.metrics import (
    BY_GROUP,
    make_plain,
    measure_confusion,
    measure_groups,
)

Statistic = Callable[[Floats], dict[str, Floats]]
"""From weights (R, G), how often each of G groups is in each of R resamples, to figures (R,) by name.

NaN where a resample lacks what a figure needs, such as any image of the class.
"""

FEWEST_GROUPS = 10
"""With fewer the resamples are too alike: the interval would be too narrow, and is not given."""

# Resamples at once: the weights of 10,000 images stay in the processor's cache.
_CHUNK = 32


def resample_means(values: dict[str, Floats], groups: Labels) -> Statistic:
    """The means of values (N,) by name, such as the loss of each image; `groups` (N,) are of `metrics.index_groups`."""
    counts = np.bincount(groups).astype(np.float64)
    sums = {name: np.bincount(groups, column) for name, column in values.items()}
    return lambda weights: {name: (weights @ column) / (weights @ counts) for name, column in sums.items()}


def bootstrap_groups(
    statistics: Sequence[Statistic],
    names: Sequence[str],
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    upper: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """Percentile intervals from resamples of whole groups with replacement, the same resamples for every figure.

    Args:
        names: (G,) of the groups, in the order of the statistics' weights.
        upper: names of the figures, none below 0, that get a one-sided upper bound; their `low` is 0.

    Returns:
        By name, in plain types for JSON: `value` of all images, None where it does not exist; `low` and `high`, or None
        and the `reason`; `num_groups`; `num_resamples`; `num_lacking`, the resamples that lacked what the figure needs
        (a class that m groups hold is lacking in a share of about exp(-m)); the keys of `describe_bounds`. With fewer
        than `FEWEST_GROUPS` groups there are no resamples, but the figure of each group under `per_group`.
    """
    num_groups = len(names)
    values = _measure(statistics, np.ones((1, num_groups)))
    if num_groups < FEWEST_GROUPS:
        num_resamples, resamples = 0, _measure(statistics, np.eye(num_groups))
    else:
        resamples = _resample(statistics, num_groups, num_resamples, seed)
    rows = {}
    for name, value in values.items():
        side: Side = "upper" if name in upper else "two-sided"
        usable = resamples[name][~np.isnan(resamples[name])]
        reason = _find_fault(value, usable, num_groups)
        tail = (1 - confidence) / (2 if side == "two-sided" else 1)
        low, high = (None, None) if reason else np.quantile(usable, [tail, 1 - tail]).tolist()
        rows[name] = {
            "value": make_plain(value[0]),
            "low": 0.0 if side == "upper" and not reason else low,
            "high": high,
            "num_groups": num_groups,
            "num_resamples": num_resamples,
            "num_lacking": max(0, num_resamples - len(usable)),
            "reason": reason,
            "per_group": None if num_resamples else dict(zip(names, map(make_plain, resamples[name]), strict=True)),
            **describe_bounds(side, confidence, "percentile bootstrap of whole groups"),
        }
    return rows


def draw_weights(rng: np.random.Generator, num_resamples: int, num_groups: int) -> Floats:
    """(R, G): how often each group is drawn when G are drawn with replacement; each row sums to G."""
    drawn = rng.integers(num_groups, size=(num_resamples, num_groups)) + num_groups * np.arange(num_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_groups)
    return counts.reshape(num_resamples, num_groups).astype(np.float64)


def _resample(statistics: Sequence[Statistic], num_groups: int, num_resamples: int, seed: int) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)
    sizes = [min(_CHUNK, num_resamples - start) for start in range(0, num_resamples, _CHUNK)]
    chunks = [_measure(statistics, draw_weights(rng, size, num_groups)) for size in sizes]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _measure(statistics: Sequence[Statistic], weights: Floats) -> dict[str, Floats]:
    return {name: column for statistic in statistics for name, column in statistic(weights).items()}


def _find_fault(value: Floats, usable: Floats, num_groups: int) -> str | None:
    """Why these resamples make no interval; None where they do."""
    if num_groups < FEWEST_GROUPS:
        groups = "group" if num_groups == 1 else "groups"
        return f"only {num_groups} {groups}: too few for an interval ({FEWEST_GROUPS} needed); see each group's figures"
    if np.isnan(value[0]):
        return "not measured: no image to measure it on"
    if not len(usable):
        return "every resample lacks what it needs"
    # An interval of no width would read as certainty; it is only that no two groups differ.
    no_spread = "every resample gives the same value: the groups show no spread to measure"
    return no_spread if np.ptp(usable) < 1e-12 else None


def rank(scores: Floats, positive: NDArray[np.bool_], groups: Labels) -> Callable[[Floats], tuple[Floats, Floats]]:
    """Returns a function from the weights (R, G) of G groups in R resamples to AUROC (R,) and average precision (R,).

    The N images are sorted once, not once for each resample. AUROC is the share of all pairs of a positive and a
    negative image in which the positive has the higher score; a tie counts half (Mann and Whitney). Average precision
    sums precision times gain in recall from the highest score to the lowest, without interpolation. Both equal
    scikit-learn's, which takes 300 times as long for all resamples. Both are NaN without a positive or a negative.
    """
    order = np.argsort(-scores, kind="stable")
    scores, groups = scores[order], groups[order]
    positives = np.flatnonzero(positive[order])
    # Images of equal score form a block. Each block with a positive has a start, an end and a first positive.
    edges = np.concatenate([[0], np.flatnonzero(np.diff(scores)) + 1, [len(scores)]])
    blocks, first_positives = np.unique(np.searchsorted(edges, positives, side="right") - 1, return_index=True)
    block_starts, block_ends = edges[blocks], edges[blocks + 1]

    def measure(weights: Floats) -> tuple[Floats, Floats]:
        undefined = np.full(len(weights), np.nan)
        if not len(positives):
            return undefined, undefined
        image_weights = np.take(weights, groups, axis=1)
        weight_before = np.zeros((len(weights), len(groups) + 1))
        np.cumsum(image_weights, axis=1, out=weight_before[:, 1:])
        gained = np.add.reduceat(image_weights[:, positives], first_positives, axis=1)
        hits = np.cumsum(gained, axis=1)
        starts, ends = weight_before[:, block_starts], weight_before[:, block_ends]
        num_positives = hits[:, -1]
        num_negatives = weight_before[:, -1] - num_positives
        # A negative below the block counts whole, one in it half, one above it not at all.
        above, within = starts - hits + gained, ends - starts - gained
        pairs = (gained * (num_negatives[:, None] - above - within / 2)).sum(axis=1)
        precision = hits / np.maximum(ends, 1)
        exists = (num_positives > 0) & (num_negatives > 0)
        auroc = np.divide(pairs, num_positives * num_negatives, out=undefined.copy(), where=exists)
        average_precision = np.divide((gained * precision).sum(axis=1), num_positives, out=undefined, where=exists)
        return auroc, average_precision

    return measure


def resample_ranking(probabilities: Floats, labels: Labels, groups: Labels, classes: Sequence[str]) -> Statistic:
    """`auroc/<class>`, `average_precision/<class>`, and `macro_` means over the classes that have images.

    A mean is NaN if the value of one of its classes is. `groups` (N,) are indices of `metrics.index_groups`.
    """
    rankings = [rank(probabilities[:, i], labels == i, groups) for i in range(len(classes))]
    present = np.unique(labels)

    def measure(weights: Floats) -> dict[str, Floats]:
        figures: dict[str, Floats] = {}
        columns = zip(*(ranking(weights) for ranking in rankings), strict=True)
        for key, values in zip(("auroc", "average_precision"), columns, strict=True):
            figures |= {f"{key}/{name}": value for name, value in zip(classes, values, strict=True)}
            figures[f"macro_{key}"] = np.mean([values[i] for i in present], axis=0)
        return figures

    return measure


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
