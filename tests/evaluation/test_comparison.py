"""Paired differences against a loop over resampled images, McNemar's test against its formula."""

import json
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from weldnet.evaluation.bootstrap import bootstrap_groups, draw_weights, resample_rates
from weldnet.evaluation.comparison import compare, run_mcnemar
from weldnet.evaluation.metrics import index_groups

Labels = NDArray[np.int64]

NAMES = ("crack", "sound", "pore")


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 10))
def test_mcnemar_is_its_formula(first_only: int, second_only: int, both: int) -> None:
    first = np.repeat([True, False, True], [first_only, second_only, both])
    second = np.repeat([False, True, True], [first_only, second_only, both])
    total, least = first_only + second_only, min(first_only, second_only)
    expected = min(1.0, 2 * sum(comb(total, k) for k in range(least + 1)) / 2**total)
    result = run_mcnemar(first, second)
    assert (result["num_first_only"], result["num_second_only"]) == (first_only, second_only)
    assert result["p_value"] == pytest.approx(expected)
    assert result["test"] == "McNemar, exact, two-sided; if every photograph showed a different weld"


def test_differences_are_those_of_a_loop_over_images() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(3, size=240), rng.integers(20, size=240)
    first, second = (np.where(rng.random(240) < share, labels, rng.integers(3, size=240)) for share in (0.6, 0.7))
    result = compare(first, second, labels, [f"{g:02}" for g in groups], NAMES, ["sound"], num_resamples=30, seed=3)
    drawn = [
        np.concatenate([np.flatnonzero(groups == g) for g in range(20) for _ in range(int(row[g]))])
        for row in draw_weights(np.random.default_rng(3), 30, 20)
    ]

    def measure(predicted: Labels, where: Labels) -> tuple[float, float, float]:
        chosen, actual = predicted[where], labels[where]
        return (chosen == actual).mean(), balanced_accuracy_score(actual, chosen), (chosen[actual != 1] == 1).mean()

    resampled = np.array([np.subtract(measure(second, at), measure(first, at)) for at in drawn])
    own = measure(first, np.arange(240)), measure(second, np.arange(240))
    everything = np.subtract(own[1], own[0])
    for i, name in enumerate(("accuracy", "balanced_accuracy", "escapes")):
        row = result["differences"][name]
        assert (row["first"], row["second"]) == pytest.approx((own[0][i], own[1][i])), name
        assert row["value"] == pytest.approx(everything[i]), name
        assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(resampled[:, i], [0.025, 0.975]))), name
    assert result["differing"] == [i for i in range(240) if first[i] != second[i]]


def test_paired_images_show_a_smaller_difference_than_independent_ones() -> None:
    rng = np.random.default_rng(1)
    labels, hard = rng.integers(3, size=600), np.repeat(rng.random(60) < 0.4, 10)
    first = np.where(hard, (labels + 1) % 3, labels)
    second = np.where(hard & (rng.random(600) < 0.9), (labels + 1) % 3, labels)
    groups = [f"{i // 10:02}" for i in range(600)]
    paired = compare(first, second, labels, groups, NAMES)["differences"]["accuracy"]
    names, indices = index_groups(groups)
    alone = bootstrap_groups([resample_rates(first, labels, indices, NAMES)], names)["accuracy"]
    assert paired["low"] is not None
    assert alone["low"] is not None
    assert paired["low"] > 0
    assert (paired["high"] or 0) - paired["low"] < ((alone["high"] or 0) - alone["low"]) / 4


def test_the_same_classifier_twice() -> None:
    labels = np.arange(30) % 3
    predicted = np.where(np.arange(30) % 7 == 0, 0, labels)
    result = compare(predicted, predicted, labels, [f"{i}" for i in range(30)], NAMES, num_resamples=50)
    row = result["differences"]["accuracy"]
    assert (row["value"], row["low"], row["high"]) == (0, None, None)
    assert row["reason"] == "every resample gives the same value: the groups show no spread to measure"
    assert (result["mcnemar"]["p_value"], result["differing"]) == (1, [])
    assert set(result["differences"]) == {
        "accuracy",
        "balanced_accuracy",
        "balanced_accuracy_by_group",
        "macro_f1",
        "kappa",
    }


def test_few_groups_and_json() -> None:
    labels = np.arange(9) % 3
    result = compare(labels, np.zeros(9, np.int64), labels, [f"weld{i // 3}" for i in range(9)], NAMES, ["sound"])
    row = json.loads(json.dumps(result, allow_nan=False))
    assert row["difference_is"].startswith("second less first")
    assert row["differences"]["accuracy"]["per_group"] == pytest.approx(
        dict.fromkeys(["weld0", "weld1", "weld2"], -2 / 3)
    )
    assert row["differing"] == [1, 2, 4, 5, 7, 8]
    assert (row["mcnemar"]["num_first_only"], row["mcnemar"]["num_second_only"]) == (6, 0)
