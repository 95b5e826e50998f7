"""Confident learning against its definition, written as loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weldnet.audit.labels import find_label_errors


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 9999))
def test_the_rule_is_its_definition(num_images: int, num_classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(num_classes), num_images)
    labels = generator.integers(0, num_classes, num_images)
    contradicting, number = [], 0
    for row, (p, label) in enumerate(zip(probabilities, labels, strict=True)):
        best = int(np.argmax(p))
        carrying = probabilities[labels == best, best]
        if best != label:
            contradicting.append((p[label], row))
            number += bool(len(carrying)) and p[best] >= carrying.mean()
    assert find_label_errors(probabilities, labels).tolist() == [row for _, row in sorted(contradicting)[:number]]


def test_the_least_probable_label_comes_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.05, 0.95], [0.42, 0.58], [0.3, 0.7], [0.45, 0.55]])
    labels = np.array([0, 0, 0, 0, 1, 1])
    # Class 1 has 0.625 on average where it is the label, which 0.58 does not reach.
    assert find_label_errors(probabilities, labels).tolist() == [2, 1]
