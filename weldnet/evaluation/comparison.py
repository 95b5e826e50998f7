"""Two classifiers on the same images: whether one is better, and on which images they differ."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from weldnet.evaluation.bootstrap import GroupInterval, Statistic, bootstrap_groups, index_groups
from weldnet.evaluation.metrics import ERRORS, METRICS, Floats, Labels
from weldnet.evaluation.rates import resample_rates


@dataclass(frozen=True)
class McNemar:
    """The images that one classifier has right and the other wrong.

    Attributes:
        num_first_only, num_second_only: right by the first, or the second, alone.
        p_value: the chance of a division at least as uneven if each of these images fell to either alike.
    """

    num_first_only: int
    num_second_only: int
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """The attributes, and `test`: in words what was tested."""
        return asdict(self) | {"test": "McNemar, exact, two-sided; assumes independent images"}


@dataclass(frozen=True)
class Comparison:
    """What sets two classifiers apart.

    Attributes:
        differences: of `METRICS` and `ERRORS`, the second's less the first's, with the interval of a paired
            bootstrap.
        mcnemar: of right and wrong.
        differing: the images (indices, rising) that they call different classes.
    """

    differences: dict[str, GroupInterval]
    mcnemar: McNemar
    differing: list[int]

    def to_dict(self) -> dict[str, Any]:
        """The attributes as plain types, and `difference_is`."""
        return {
            "difference_is": "second less first, on the same images and the same resamples of groups",
            "differences": {name: each.to_dict() for name, each in self.differences.items()},
            "mcnemar": self.mcnemar.to_dict(),
            "differing": self.differing,
        }


def compare(
    first: Labels,
    second: Labels,
    labels: Labels,
    groups: Sequence[str],
    classes: Sequence[str],
    good_classes: Collection[str] = (),
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compares what two classifiers call the same images.

    Args:
        first, second: (N,) predicted indices into `classes`, N at least 1.
        labels: (N,) true indices.
        groups: (N,) names.
        classes: C names.
        good_classes: the classes that are no defect; without any, escapes and false calls are not compared.
        num_resamples, confidence, seed: of `bootstrap.bootstrap_groups`.
    """
    names, indices = index_groups(groups)
    statistic = _subtract(*(resample_rates(each, labels, indices, classes, good_classes) for each in (first, second)))
    return Comparison(
        bootstrap_groups([statistic], names, num_resamples, confidence, seed),
        run_mcnemar(first == labels, second == labels),
        np.flatnonzero(first != second).tolist(),
    )


def run_mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """The exact test that both are right equally often.

    Args:
        first, second: (N,) bool, whether each classifier is right.

    Source:
        McNemar, Psychometrika 12 (1947); exact: the smaller count is binomial with p = 1/2.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    num_discordant = only_first + only_second
    p_value = float(binomtest(only_first, num_discordant).pvalue) if num_discordant else 1.0
    return McNemar(only_first, only_second, p_value)


def _subtract(first: Statistic, second: Statistic) -> Statistic:
    def measure(weights: Floats) -> dict[str, Floats]:
        minuend, subtrahend = second(weights), first(weights)
        keys = [metric.key for metric in (*METRICS, *ERRORS) if metric.key in minuend]
        return {key: minuend[key] - subtrahend[key] for key in keys}

    return measure
