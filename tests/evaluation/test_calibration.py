"""Temperature against a fine grid, calibration errors against loops and scikit-learn."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from weldnet.evaluation.calibration import (
    BOUNDS,
    expected_calibration_error,
    fit_temperature,
    is_separated,
    reliability_bins,
    summarise_calibration,
)
from weldnet.evaluation.metrics import cross_entropy

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def draw_answers(seed: int, num_images: int, temperature: float = 1.0) -> tuple[Floats, Labels]:
    """Logits (N, 4) that are `temperature` times those that the labels were drawn from."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(num_images, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return temperature * logits, labels


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_temperature_is_that_of_a_fine_grid(scale: float) -> None:
    logits, labels = draw_answers(0, 300, scale)
    grid = np.geomspace(*BOUNDS, 6001)
    losses = [cross_entropy(logits / each, labels).mean() for each in grid]
    assert fit_temperature(logits, labels) == pytest.approx(grid[np.argmin(losses)], rel=1e-3)


def test_temperature_undoes_a_scale() -> None:
    logits, labels = draw_answers(1, 20_000, 2.5)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(2.5, rel=0.05)
    assert fit_temperature(logits / 4, labels) == pytest.approx(temperature / 4, rel=1e-4)
    probabilities = softmax(logits / temperature, axis=1)
    assert (
        expected_calibration_error(probabilities, labels)
        < 0.02
        < expected_calibration_error(softmax(logits, axis=1), labels)
    )


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30), st.sampled_from([0.01, 1.0, 100.0]))
def test_temperature_is_never_worse_than_none(seed: int, num_images: int, scale: float) -> None:
    logits, labels = draw_answers(seed, num_images, scale)
    temperature = fit_temperature(logits, labels)
    assert BOUNDS[0] <= temperature <= BOUNDS[1]
    assert cross_entropy(logits / temperature, labels).mean() <= cross_entropy(logits, labels).mean()
    # The predicted class stays the same.
    assert ((logits / temperature).argmax(1) == logits.argmax(1)).all()


@pytest.mark.parametrize(("logits", "separated"), [([[2.0, 1.0], [0.0, 3.0]], True), ([[1.0, 1.0], [0.0, 3.0]], False)])
def test_perfect_predictions_leave_the_temperature_at_one(logits: list[list[float]], separated: bool) -> None:
    labels = np.array([0, 1])
    assert is_separated(np.array(logits), labels) == separated
    assert (fit_temperature(np.array(logits), labels) == 1) == separated


def test_temperature_where_there_is_no_minimum_within_reach() -> None:
    labels = np.array([0, 1, 0, 1])
    assert fit_temperature(np.zeros((4, 2)), labels) == 1
    worse_than_chance = np.eye(2)[1 - labels]
    assert fit_temperature(worse_than_chance, labels) == pytest.approx(BOUNDS[1], rel=1e-4)


def loop_error(probabilities: Floats, labels: Labels, num_bins: int) -> float:
    """The expected calibration error, one image at a time."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probabilities, labels, strict=True):
        confidence = float(row.max())
        place = next(i for i in range(num_bins) if confidence <= (i + 1) / num_bins)
        bins.setdefault(place, []).append((confidence, bool(row.argmax() == label)))
    gaps = [abs(np.mean([r for _, r in each]) - np.mean([c for c, _ in each])) * len(each) for each in bins.values()]
    return float(sum(gaps) / len(labels))


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from([1, 4, 15]), st.sampled_from([0.5, 2.0, 40.0]))
def test_calibration_error_is_that_of_a_loop(seed: int, num_images: int, num_bins: int, scale: float) -> None:
    logits, labels = draw_answers(seed, num_images, scale)
    probabilities = softmax(logits, axis=1)
    ours = expected_calibration_error(probabilities, labels, num_bins)
    assert ours == pytest.approx(loop_error(probabilities, labels, num_bins), abs=1e-12)


def test_bins_are_sklearns() -> None:
    logits, labels = draw_answers(2, 500)
    probabilities = softmax(logits, axis=1)
    bins = reliability_bins(probabilities, labels, 10)
    right, confidence = probabilities.argmax(1) == labels, probabilities.max(1)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    filled = [each for each in bins if each["accuracy"]["n"]]
    assert [each["accuracy"]["value"] for each in filled] == pytest.approx(accuracy.tolist())
    assert [each["mean_confidence"] for each in filled] == pytest.approx(mean.tolist())
    assert sum(each["accuracy"]["n"] for each in bins) == 500
    # Four classes: no confidence is below 1/4.
    assert [(bins[0]["low"], bins[0]["mean_confidence"], bins[0]["accuracy"]["value"])] == [(0.0, None, None)]
    assert bins[-1]["high"] == 1


def test_an_edge_belongs_to_the_bin_below() -> None:
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25]])
    bins = reliability_bins(probabilities, np.array([0, 0, 1]), 4)
    assert [(each["accuracy"]["k"], each["accuracy"]["n"]) for each in bins] == [(0, 0), (1, 1), (0, 1), (1, 1)]


def test_brier_and_likelihood_are_sklearns() -> None:
    logits, labels = draw_answers(3, 200)
    probabilities = softmax(logits, axis=1)
    # One class against the rest, and the sum of them: every version of scikit-learn has that.
    expected = sum(brier_score_loss(labels == i, probabilities[:, i]) for i in range(4))
    figures = summarise_calibration(logits, labels, 1.0)["after"]
    assert figures["brier_score"] == pytest.approx(expected)
    assert figures["negative_log_likelihood"] == pytest.approx(log_loss(labels, probabilities))
    certain = [summarise_calibration(1e3 * np.eye(4)[(labels + i) % 4], labels, 1.0) for i in range(2)]
    assert [each["after"]["brier_score"] for each in certain] == [0, 2]


def test_summary_is_before_and_after() -> None:
    logits, labels = draw_answers(4, 400, 3.0)
    summary = summarise_calibration(logits, labels, fit_temperature(logits, labels))
    before, after = summary["before"], summary["after"]
    for name in ("expected_calibration_error", "brier_score", "negative_log_likelihood"):
        assert after[name] < before[name]
    assert after["negative_log_likelihood"] == cross_entropy(logits / summary["temperature"], labels).mean()
    assert len(after["bins"]) == 15
    assert list(after["bins"][0]["accuracy"])[:5] == ["value", "low", "high", "k", "n"]
    json.dumps(summary, allow_nan=False)
