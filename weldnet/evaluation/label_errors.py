"""Likely label errors: confident learning on probabilities that are out of fold."""

import numpy as np
from numpy.typing import NDArray

from weldnet.evaluation.arrays import Floats, Labels


def find_label_errors(probabilities: Floats, labels: Labels) -> NDArray[np.int64]:
    """The rows whose label is probably wrong, the most probable one first.

    A label contradicts where a different class is the most probable one; it does so confidently where that class is at
    least as probable as it is on average for the images that carry its label. As many rows are returned as contradict
    confidently: of those that contradict, the ones whose label has the lowest probability.
    Probabilities (N, C) are out of fold, labels (N,) are indices of classes.
    Reference: Northcutt, Jiang and Chuang, Confident Learning, 2021; cleanlab's `low_self_confidence`.
    """
    predicted, highest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    of_label, num_classes = probabilities[np.arange(len(labels)), labels], probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    # Of a class without images nothing is usual, and no probability reaches infinity.
    usual = np.where(counts > 0, np.bincount(labels, of_label, num_classes) / np.maximum(counts, 1), np.inf)
    contradicting = predicted != labels
    number = np.count_nonzero(contradicting & (highest >= usual[predicted]))
    rows = np.flatnonzero(contradicting)
    return rows[np.argsort(of_label[rows], kind="stable")][:number]
