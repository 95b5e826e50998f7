"""The figures against scikit-learn's."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    recall_score,
)

from weldnet.evaluation.metrics import BY_GROUP, cross_entropy, measure_groups, summarise

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

NAMES = ("crack", "no_defect", "pore", "undercut", "spatter")


def draw_answers(seed: int, num_images: int, absent: Sequence[int] = (), scale: float = 3.0) -> tuple[Floats, Labels]:
    """Logits (N, 5) that are better than chance, and labels without the absent classes."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([i for i in range(len(NAMES)) if i not in absent], num_images)
    return scale * rng.normal(size=(num_images, len(NAMES))) + 2 * np.eye(len(NAMES))[labels], labels


absences = st.sets(st.integers(0, 4), max_size=4).map(sorted)


@given(st.integers(0, 2**31), st.integers(1, 60), absences)
def test_figures_are_sklearns(seed: int, num_images: int, absent: list[int]) -> None:
    logits, labels = draw_answers(seed, num_images, absent)
    predicted, present = logits.argmax(1), sorted(set(labels.tolist()))
    figures = summarise(logits, labels, NAMES, [None] * num_images)
    assert figures["loss"] == pytest.approx(log_loss(labels, softmax(logits, axis=1), labels=range(5)))
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert figures["confusion_matrix"] == confusion_matrix(labels, predicted, labels=range(5)).tolist()
    kappa = cohen_kappa_score(labels, predicted) if len({*present, *predicted.tolist()}) > 1 else None
    assert figures["kappa"] == (kappa if kappa is None else pytest.approx(kappa))
    macro_f1 = f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert figures["macro_f1"] == pytest.approx(macro_f1)
    expected = precision_recall_fscore_support(labels, predicted, labels=range(5), zero_division=np.nan)
    for name, precision, recall, f1, support in zip(NAMES, *expected, strict=True):
        row = figures["per_class"][name]
        assert row["support"] == support
        for key, value in (("precision", precision), ("recall", recall), ("f1", f1)):
            assert (row[key] is None) == np.isnan(value), (name, key)
            assert row[key] is None or row[key] == pytest.approx(value)
    assert figures["not_measured"] == [name for i, name in enumerate(NAMES) if i not in present]
    assert (figures["num_images"], figures["classes"]) == (num_images, list(NAMES))
    # scikit-learn warns where an absent class is predicted, or there is one class only.
    if len(present) > 1 and set(predicted.tolist()) <= set(present):
        assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    recalls = [row["recall"] for row in figures["per_class"].values() if row["support"]]
    assert figures["balanced_accuracy"] == pytest.approx(np.mean(recalls))


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
def test_large_logits_stay_finite(offset: float) -> None:
    logits, labels = draw_answers(0, 50, scale=200)
    loss = cross_entropy(logits, labels)
    assert np.isfinite(loss).all()
    assert (loss >= 0).all()
    np.testing.assert_allclose(cross_entropy(logits + offset, labels), loss, atol=1e-9)


def test_confusion_rows_are_true_classes() -> None:
    figures = summarise(np.eye(3)[[1, 1, 0]], np.array([0, 0, 2]), NAMES[:3], [None] * 3)
    assert figures["confusion_matrix"] == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_kappa_of_what_chance_explains_is_no_number() -> None:
    assert summarise(np.eye(3)[[1, 1]], np.array([1, 1]), NAMES[:3], [None] * 2)["kappa"] is None
    assert summarise(np.eye(3)[[1, 1]], np.array([1, 0]), NAMES[:3], [None] * 2)["kappa"] == 0


@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 9))
def test_each_group_has_the_mean_recall_of_its_own_classes(seed: int, num_images: int, num_groups: int) -> None:
    logits, labels = draw_answers(seed, num_images)
    predicted, groups = logits.argmax(1), np.random.default_rng(seed).integers(num_groups, size=num_images)
    expected = []
    for group in np.unique(groups):
        mine = groups == group
        present = np.unique(labels[mine])
        expected.append(recall_score(labels[mine], predicted[mine], labels=present, average="macro"))
    assert measure_groups(predicted, labels, groups) == pytest.approx(np.array(expected))
    figures = summarise(logits, labels, NAMES, [f"S{group}" for group in groups])
    assert figures[BY_GROUP] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("groups", "value"),
    [
        # S1: one of two cracks and no pore is right; S2 has cracks only, and all are right.
        (["S1", "S1", "S1", "S2", "S2"], (0.25 + 1) / 2),
        # Each image is a weld of its own.
        ([None] * 5, 3 / 5),
        # The two without a weld are two welds.
        (["S1", "S1", "S1", None, None], (0.25 + 1 + 1) / 3),
        # One weld.
        (["S1"] * 5, (3 / 4 + 0) / 2),
    ],
)
def test_a_group_without_a_class_is_measured_on_the_others(groups: list[str | None], value: float) -> None:
    labels = np.array([0, 0, 1, 0, 0])
    logits = np.eye(2)[[0, 1, 0, 0, 0]]
    assert summarise(logits, labels, NAMES[:2], groups)[BY_GROUP] == pytest.approx(value)
