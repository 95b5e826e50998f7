"""Rates of confusion matrices against scikit-learn's on the images themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    precision_recall_fscore_support,
    recall_score,
)

from weldnet.evaluation.bootstrap import resample_rates
from weldnet.evaluation.metrics import BY_GROUP, METRICS, measure_proportions, summarise_confusion

NAMES = ("crack", "sound", "pore", "clean")
GOOD = ("sound", "clean")


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 6))
def test_weighted_rates_are_sklearns_of_repeated_images(seed: int, num_images: int, num_groups: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(4, size=(2, num_images))
    groups = np.concatenate([rng.integers(num_groups, size=num_images - 1), [num_groups - 1]])
    weights = rng.integers(3, size=(1, num_groups)) + (np.arange(num_groups) == num_groups - 1)
    rates = resample_rates(predicted, labels, groups, NAMES, GOOD)(weights.astype(float))
    repeats = weights[0, groups]
    actual, repeated_predicted = np.repeat(labels, repeats), np.repeat(predicted, repeats)
    expected = precision_recall_fscore_support(actual, repeated_predicted, labels=range(4), zero_division=np.nan)
    for i, name in enumerate(NAMES):
        for key, column in zip(("precision", "recall", "f1"), expected, strict=False):
            # scikit-learn's precision and F1 of a class without images are 0 once it is predicted.
            value = column[i] if (actual == i).any() else np.nan
            assert rates[f"{key}/{name}"][0] == pytest.approx(value, nan_ok=True), (key, name)
        others = repeated_predicted[actual != i]
        specificity = np.mean(others != i) if len(others) else np.nan
        assert rates[f"specificity/{name}"][0] == pytest.approx(specificity, nan_ok=True)
    measured = sorted(set(labels.tolist()))
    for mean, column in zip(("macro_precision", "balanced_accuracy", "macro_f1"), expected, strict=False):
        expected_mean = np.nan if set(measured) - set(actual.tolist()) else column[measured].mean()
        assert rates[mean][0] == pytest.approx(expected_mean, nan_ok=True)
    assert rates["accuracy"][0] == pytest.approx(accuracy_score(actual, repeated_predicted))
    present = np.unique(groups)
    within = [
        recall_score(labels[mine], predicted[mine], labels=np.unique(labels[mine]), average="macro")
        for mine in (groups == group for group in present)
    ]
    of_groups = np.average(within, weights=weights[0, present])
    assert rates[BY_GROUP][0] == pytest.approx(of_groups), "a group is drawn as a whole"
    kappa = cohen_kappa_score(actual, repeated_predicted) if len({*actual, *repeated_predicted}) > 1 else np.nan
    assert rates["kappa"][0] == pytest.approx(kappa, nan_ok=True)
    is_good, predicted_good = np.isin(actual, [1, 3]), np.isin(repeated_predicted, [1, 3])
    escapes = predicted_good[~is_good].mean() if (~is_good).any() else np.nan
    assert rates["escapes"][0] == pytest.approx(escapes, nan_ok=True)
    false_calls = (~predicted_good[is_good]).mean() if is_good.any() else np.nan
    assert rates["false_calls"][0] == pytest.approx(false_calls, nan_ok=True)


def test_figures_are_those_of_the_summary() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(3, size=50), rng.integers(3, size=50)
    rates = resample_rates(predicted, labels, np.zeros(50, np.int64), NAMES)(np.ones((1, 1)))
    summary = summarise_confusion(confusion_matrix(labels, predicted, labels=range(4)), NAMES)
    assert rates[BY_GROUP][0] == pytest.approx(summary["balanced_accuracy"]), "of one group it is the same"
    for metric in METRICS:
        if metric.key not in ("loss", BY_GROUP):
            assert rates[metric.key][0] == pytest.approx(summary[metric.key])
    assert np.isnan(rates["recall/clean"][0])
    assert "escapes" not in rates


def test_proportions_are_counts_of_images() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 2, 2, 3]), np.array([0, 1, 3, 2, 2, 1, 1])
    rows = measure_proportions(confusion_matrix(labels, predicted, labels=range(4)), NAMES, GOOD)
    counts = {name: (row["k"], row["n"]) for name, row in rows.items()}
    assert counts == {
        "accuracy": (2, 7),
        "precision/crack": (1, 1),
        "recall/crack": (1, 3),
        "specificity/crack": (4, 4),
        "precision/sound": (0, 3),
        "recall/sound": (0, 1),
        "specificity/sound": (3, 6),
        "precision/pore": (1, 2),
        "recall/pore": (1, 2),
        "specificity/pore": (4, 5),
        "precision/clean": (0, 1),
        "recall/clean": (0, 1),
        "specificity/clean": (5, 6),
        "escapes": (3, 5),
        "false_calls": (1, 2),
    }
    assert {name for name, row in rows.items() if "high_is" in row} == {"escapes", "false_calls"}
    assert "interval_is" in rows["accuracy"]
