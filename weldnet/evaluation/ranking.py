"""How well the probabilities rank the images: AUROC and average precision of each class against the others."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from weldnet.evaluation.bootstrap import Statistic
from weldnet.evaluation.metrics import Floats, Labels


def rank(scores: Floats, positive: NDArray[np.bool_], groups: Labels) -> Callable[[Floats], tuple[Floats, Floats]]:
    """AUROC and average precision (R,) by the groups' weights (R, G); the N images are sorted once for all resamples.

    AUROC is the share of the pairs of a positive and a negative that stand in the right order, ties counted half (Mann
    and Whitney). Average precision is the sum over the scores of the gain in recall times the precision, without
    interpolation. Both as in scikit-learn, whose functions take 300 times as long for the resamples; NaN without a
    positive or a negative.
    """
    order = np.argsort(-scores, kind="stable")
    scores, groups = scores[order], groups[order]
    positives = np.flatnonzero(positive[order])
    # Images of one score are one block; of each block with a positive: its first positive, where it starts and ends.
    edges = np.concatenate([[0], np.flatnonzero(np.diff(scores)) + 1, [len(scores)]])
    found, first = np.unique(np.searchsorted(edges, positives, side="right") - 1, return_index=True)
    block_starts, block_ends = edges[found], edges[found + 1]

    def measure(weights: Floats) -> tuple[Floats, Floats]:
        nothing = np.full(len(weights), np.nan)
        if not len(positives):
            return nothing, nothing
        image_weights = np.take(weights, groups, axis=1)
        before = np.zeros((len(weights), len(groups) + 1))
        np.cumsum(image_weights, axis=1, out=before[:, 1:])
        gained = np.add.reduceat(image_weights[:, positives], first, axis=1)
        hits = np.cumsum(gained, axis=1)
        starts, ends = before[:, block_starts], before[:, block_ends]
        num_positives = hits[:, -1]
        num_negatives = before[:, -1] - num_positives
        # Negatives above the block are starts - (hits - gained), those below or in it count whole or half.
        above, within = starts - hits + gained, ends - starts - gained
        pairs = (gained * (num_negatives[:, None] - above - within / 2)).sum(axis=1)
        precision = hits / np.maximum(ends, 1)
        exists = (num_positives > 0) & (num_negatives > 0)
        area = np.divide(pairs, num_positives * num_negatives, out=nothing.copy(), where=exists)
        return area, np.divide((gained * precision).sum(axis=1), num_positives, out=nothing, where=exists)

    return measure


def resample_ranking(probabilities: Floats, labels: Labels, groups: Labels, classes: Sequence[str]) -> Statistic:
    """`auroc/<class>`, `average_precision/<class>`, and `macro_` means over the classes that have images.

    A mean is NaN where the figure of one class is. `groups` (N,) are indices of `bootstrap.index_groups`.
    """
    rankings = [rank(probabilities[:, i], labels == i, groups) for i in range(len(classes))]
    measured = np.unique(labels)

    def measure(weights: Floats) -> dict[str, Floats]:
        figures: dict[str, Floats] = {}
        columns = zip(*(ranking(weights) for ranking in rankings), strict=True)
        for key, values in zip(("auroc", "average_precision"), columns, strict=True):
            figures |= {f"{key}/{name}": value for name, value in zip(classes, values, strict=True)}
            figures[f"macro_{key}"] = np.mean([values[i] for i in measured], axis=0)
        return figures

    return measure
