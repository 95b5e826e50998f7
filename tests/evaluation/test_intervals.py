"""Exact intervals against scipy's, and by enumeration of every outcome."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from weldnet.evaluation.intervals import Side, describe_bounds, needed_images, proportion

# In scipy the alternative names the side that the interval leaves open below or above.
ALTERNATIVES: dict[Side, str] = {"two-sided": "two-sided", "upper": "less", "lower": "greater"}

sides = st.sampled_from(list(ALTERNATIVES))
outcomes = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None)
@given(outcomes, sides, st.sampled_from([0.8, 0.95, 0.99]))
def test_intervals_are_scipys(outcome: tuple[int, int], side: Side, confidence: float) -> None:
    k, n = outcome
    ours = proportion(k, n, confidence, side)
    expected = binomtest(k, n, alternative=ALTERNATIVES[side]).proportion_ci(confidence, "exact")
    assert (ours["low"], ours["high"]) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (ours["value"], ours["k"], ours["n"]) == (k / n, k, n)


@pytest.mark.parametrize("n", [1, 7, 40, 150])
@pytest.mark.parametrize("side", list(ALTERNATIVES))
def test_intervals_cover_every_truth(n: int, side: Side) -> None:
    truths = np.linspace(0, 1, 501)
    intervals = [proportion(k, n, side=side) for k in range(n + 1)]
    low, high = np.array([(each["low"], each["high"]) for each in intervals], float).T
    covered = (low[:, None] <= truths) & (truths <= high[:, None])
    coverage = (binom.pmf(np.arange(n + 1)[:, None], n, truths) * covered).sum(axis=0)
    assert coverage.min() >= 0.95 - 1e-9


def test_nothing_has_no_proportion() -> None:
    nothing = proportion(0, 0)
    assert (nothing["value"], nothing["low"], nothing["high"], nothing["k"], nothing["n"]) == (None, None, None, 0, 0)


def test_an_interval_says_what_it_is() -> None:
    row = json.loads(json.dumps(proportion(3, 40), allow_nan=False))
    words = "two-sided 95 % interval (exact, Clopper-Pearson; assumes independent images)"
    assert list(row) == ["value", "low", "high", "k", "n", "interval_is"]
    assert row["interval_is"] == words
    assert proportion(3, 40, side="upper")["high_is"].startswith("one-sided 95 % upper bound (")
    assert describe_bounds("lower", 0.999, "x") == {"low_is": "one-sided 99.9 % lower bound (x)"}


@pytest.mark.parametrize(("rate", "number"), [(0.10, 29), (0.05, 59), (0.01, 299), (0.5, 5)])
def test_how_many_images_it_takes(rate: float, number: int) -> None:
    assert needed_images(rate) == number


@settings(deadline=None)
@given(st.floats(0.005, 0.9), st.sampled_from([0.9, 0.95, 0.99]))
def test_needed_images_are_the_fewest(rate: float, confidence: float) -> None:
    def bound(n: int) -> float:
        return proportion(0, n, confidence, "upper")["high"] or 0.0

    needed = needed_images(rate, confidence)
    assert bound(needed) <= rate + 1e-9
    assert needed == 1 or bound(needed - 1) > rate - 1e-9
