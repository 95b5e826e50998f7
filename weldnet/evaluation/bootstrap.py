"""A bootstrap that resamples whole groups (welds), because photographs of one weld are not independent.

Knows neither classes nor images: a figure is whatever a `Statistic` makes of how often each group is drawn.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from weldnet.evaluation.intervals import Side, describe_bounds
from weldnet.evaluation.metrics import Floats, Labels, make_plain

Statistic = Callable[[Floats], dict[str, Floats]]
"""From weights (R, G), how often each of G groups is in each of R resamples, to figures (R,) by name.

NaN where a resample lacks what a figure needs, such as any image of the class.
"""

FEWEST_GROUPS = 10
"""With fewer the resamples are too alike: the interval would be too narrow, and is not given."""

# Resamples at once: the weights of 10,000 images stay in the processor's cache.
_CHUNK = 32


@dataclass(frozen=True)
class GroupInterval:
    """A figure with its interval.

    Attributes:
        value: the figure of all images; None where it does not exist.
        low, high: percentiles of the resamples, or None, and then `reason` says why.
        num_groups: G.
        num_resamples: how many were drawn; 0 with fewer than `FEWEST_GROUPS` groups.
        num_lacking: how many of them lacked what the figure needs and were left out. A class that m groups hold is
            lacking in a share of about exp(-m): 5 % means that it is some three groups.
        reason: why there is no interval.
        per_group: the figure of each group by its name, only with fewer than `FEWEST_GROUPS` groups.
        side, confidence: what the bounds are.
    """

    value: float | None
    low: float | None
    high: float | None
    num_groups: int
    num_resamples: int
    num_lacking: int
    reason: str | None
    per_group: dict[str, float | None] | None
    side: Side
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """The attributes as plain types; what `describe_bounds` says in place of the last two."""
        row = asdict(self)
        words = describe_bounds(row.pop("side"), row.pop("confidence"), "percentile bootstrap of whole groups")
        return row | words


def index_groups(groups: Sequence[str]) -> tuple[list[str], Labels]:
    """The sorted names (G,) of the groups of N images, and the index (N,) of each image's."""
    names, indices = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    return names.tolist(), indices


def resample_means(values: dict[str, Floats], groups: Labels) -> Statistic:
    """The means of values (N,) by name, such as the loss of each image.

    Args:
        groups: (N,) indices of `index_groups`.
    """
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
) -> dict[str, GroupInterval]:
    """Percentile intervals from resamples of whole groups with replacement, the same resamples for every figure.

    Args:
        statistics: each gives figures of its own names.
        names: (G,) of the groups, in the order of the statistics' weights.
        num_resamples: R, at least 1.
        confidence: above 0, below 1.
        seed: the same seed gives the same intervals.
        upper: names of the figures, none below 0, that get a one-sided upper bound; their `low` is 0.

    Returns:
        Every figure by name. With fewer than `FEWEST_GROUPS` groups its value in each group in place of an interval.

    Source:
        Davison and Hinkley, Bootstrap Methods and their Application (1997), 3.8 (whole clusters) and 5.3 (percentiles).
    """
    sides: dict[str, Side] = dict.fromkeys(upper, "upper")
    values = {key: make_plain(row[0]) for key, row in _measure(statistics, np.ones((1, len(names)))).items()}
    if len(names) < FEWEST_GROUPS:
        rows = _measure(statistics, np.eye(len(names)))
        per_group = {key: dict(zip(names, map(make_plain, row), strict=True)) for key, row in rows.items()}
        reason = f"{len(names)} groups: an interval takes at least {FEWEST_GROUPS}; the figures of each group instead"
        return {
            key: GroupInterval(
                value, None, None, len(names), 0, 0, reason, per_group[key], sides.get(key, "two-sided"), confidence
            )
            for key, value in values.items()
        }
    resamples = _resample(statistics, len(names), num_resamples, np.random.default_rng(seed))
    return {
        key: _take_percentiles(value, resamples[key], len(names), sides.get(key, "two-sided"), confidence)
        for key, value in values.items()
    }


def _measure(statistics: Sequence[Statistic], weights: Floats) -> dict[str, Floats]:
    return {name: column for statistic in statistics for name, column in statistic(weights).items()}


def _resample(
    statistics: Sequence[Statistic], num_groups: int, num_resamples: int, rng: np.random.Generator
) -> dict[str, Floats]:
    sizes = [min(_CHUNK, num_resamples - start) for start in range(0, num_resamples, _CHUNK)]
    chunks = [_measure(statistics, draw_weights(rng, size, num_groups)) for size in sizes]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def draw_weights(rng: np.random.Generator, num_resamples: int, num_groups: int) -> Floats:
    """(R, G): how often each group is drawn when G are drawn with replacement; each row sums to G."""
    drawn = rng.integers(num_groups, size=(num_resamples, num_groups)) + num_groups * np.arange(num_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_groups)
    return counts.reshape(num_resamples, num_groups).astype(np.float64)


def _take_percentiles(
    value: float | None, resamples: Floats, num_groups: int, side: Side, confidence: float
) -> GroupInterval:
    usable = resamples[~np.isnan(resamples)]
    low, high, reason = None, None, None
    if value is None or not len(usable):
        reason = "not measured: no image to measure it on" if value is None else "every resample lacks what it needs"
    elif np.ptp(usable) < 1e-12:
        # An interval of no width would read as certainty; it is only that no two groups differ.
        reason = "every resample gives the same value: the groups show no spread to measure"
    else:
        tail = (1 - confidence) / 2 if side == "two-sided" else 1 - confidence
        low = float(np.quantile(usable, tail)) if side == "two-sided" else 0.0
        high = float(np.quantile(usable, 1 - tail))
    num_lacking = len(resamples) - len(usable)
    return GroupInterval(value, low, high, num_groups, len(resamples), num_lacking, reason, None, side, confidence)
