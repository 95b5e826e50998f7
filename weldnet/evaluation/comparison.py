"""Two classifiers on the same images: whether one is better, and on which images they differ."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from weldnet.evaluation.arrays import Floats, Labels
from weldnet.evaluation.bootstrap import bootstrap_groups, resample_rates
from weldnet.evaluation.metrics import ERRORS, METRICS, index_groups, make_plain


def compare(
    first: Labels,
    second: Labels,
    labels: Labels,
    groups: Sequence[str],
    classes: Sequence[str],
    good_classes: Collection[str] = (),
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares the predictions (N,) of two classifiers on the same images, as plain types for JSON.

    Without good classes, `ERRORS` are not compared.

    Returns:
        `differences`: of `METRICS` and `ERRORS`, the second's less the first's, with intervals of a paired bootstrap,
        beside the figures of both, `first` and `second`; `difference_is`; `mcnemar`, see `run_mcnemar`; `differing`:
        the images (indices, rising) with two predictions.
    """
    names, indices = index_groups(groups)
    measures = [resample_rates(each, labels, indices, classes, good_classes) for each in (first, second)]

    def subtract(weights: Floats) -> dict[str, Floats]:
        subtrahend, minuend = (measure(weights) for measure in measures)
        keys = [metric.key for metric in (*METRICS, *ERRORS) if metric.key in minuend]
        return {key: minuend[key] - subtrahend[key] for key in keys}

    differences = bootstrap_groups([subtract], names, num_resamples, seed=seed)
    for name, measure in zip(("first", "second"), measures, strict=True):
        figures = measure(np.ones((1, len(names))))
        for key, row in differences.items():
            row[name] = make_plain(figures[key][0])
    return {
        "difference_is": "second less first, on the same images and the same resamples of groups",
        "differences": differences,
        "mcnemar": run_mcnemar(first == labels, second == labels),
        "differing": np.flatnonzero(first != second).tolist(),
    }


def run_mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> dict[str, Any]:
    """The exact test that two classifiers are right equally often, from whether each is right (N,).

    McNemar, Psychometrika 12 (1947); exact: the smaller count is binomial with p = 1/2.

    Returns:
        `num_first_only`, `num_second_only`: right by one alone; `p_value`: the chance of a division at least as uneven
        if each of these images fell to either alike; `test`: in words.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    return {
        "num_first_only": only_first,
        "num_second_only": only_second,
        "p_value": float(binomtest(only_first, discordant).pvalue) if discordant else 1.0,
        "test": "McNemar, exact, two-sided; if every photograph showed a different weld",
    }
