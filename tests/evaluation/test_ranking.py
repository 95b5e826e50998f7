"""AUROC and average precision against scikit-learn's, weighted and not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from weldnet.evaluation.bootstrap import resample_ranking

NAMES = ("crack", "sound", "pore")


def reference(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """scikit-learn's of one class; NaN without a positive or a negative."""
    if not 0 < weights[labels].sum() < weights.sum():
        return np.nan, np.nan
    # It keeps images of no weight as thresholds.
    kept = weights > 0
    return (
        float(roc_auc_score(labels[kept], scores[kept], sample_weight=weights[kept])),
        float(average_precision_score(labels[kept], scores[kept], sample_weight=weights[kept])),
    )


# Few distinct scores make ties, many make none.
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 50), st.sampled_from([2, 5, 1000]), st.integers(1, 8))
def test_weighted_figures_are_sklearns(seed: int, num_images: int, num_scores: int, num_groups: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=num_images)
    scores = rng.integers(num_scores, size=(num_images, 3)) / num_scores
    groups = rng.integers(num_groups, size=num_images)
    weights = rng.integers(3, size=(4, num_groups)).astype(float)
    figures = resample_ranking(scores, labels, groups, NAMES)(weights)
    expected = np.array([[reference(labels == i, scores[:, i], row[groups]) for i in range(3)] for row in weights])
    for i, name in enumerate(NAMES):
        np.testing.assert_allclose(figures[f"auroc/{name}"], expected[:, i, 0], atol=1e-12)
        np.testing.assert_allclose(figures[f"average_precision/{name}"], expected[:, i, 1], atol=1e-12)
    measured = sorted(set(labels.tolist()))
    np.testing.assert_allclose(figures["macro_auroc"], expected[:, measured, 0].mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(figures["macro_average_precision"], expected[:, measured, 1].mean(axis=1), atol=1e-12)


def measure(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """The figures of the images as they are."""
    figures = resample_ranking(probabilities, labels, np.zeros(len(labels), np.int64), NAMES)(np.ones((1, 1)))
    return {name: float(value[0]) for name, value in figures.items()}


def test_macro_auroc_is_sklearns_one_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    probabilities = softmax(rng.normal(size=(300, 3)) + np.eye(3)[labels], axis=1)
    figures = measure(probabilities, labels)
    assert figures["macro_auroc"] == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert figures["macro_average_precision"] == pytest.approx(
        average_precision_score(np.eye(3)[labels], probabilities)
    )


def test_a_class_without_positives_or_negatives_is_not_measured() -> None:
    probabilities = softmax(np.random.default_rng(0).normal(size=(6, 3)), axis=1)
    figures = measure(probabilities, np.array([0, 0, 0, 1, 1, 1]))
    assert np.isnan(figures["auroc/pore"])
    assert np.isnan(figures["average_precision/pore"])
    assert figures["macro_auroc"] == pytest.approx((figures["auroc/crack"] + figures["auroc/sound"]) / 2)
    assert np.isnan(list(measure(probabilities, np.zeros(6, np.int64)).values())).all()
