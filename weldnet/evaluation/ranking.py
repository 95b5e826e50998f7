"""How well the probabilities rank the images: AUROC and average precision of each class against the rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weldnet.evaluation.bootstrap import Statistic
from weldnet.evaluation.metrics import Floats, Labels


@dataclass(frozen=True)
class Ranking:
    """N images by falling score of one class, sorted once for all resamples. Images of one score are one block.

    Attributes:
        groups: (N,) the group of each, in this order.
        positives: (P,) the places of the images of the class.
        blocks: (B,) where in `positives` each of the B blocks with a positive begins.
        starts, ends: (B,) how many images come before such a block, and before the next block.
    """

    groups: Labels
    positives: Labels
    blocks: Labels
    starts: Labels
    ends: Labels


def rank(scores: Floats, positive: NDArray[np.bool_], groups: Labels) -> Ranking:
    """Sorts images by falling score.

    Args:
        scores: (N,), higher is more likely of the class.
        positive: (N,) bool, whether the image is of the class.
        groups: (N,) indices of `bootstrap.index_groups`.
    """
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    edges = np.concatenate([[0], np.flatnonzero(np.diff(scores)) + 1, [len(scores)]])
    positives = np.flatnonzero(positive[order])
    block = np.searchsorted(edges, positives, side="right") - 1
    found, first = np.unique(block, return_index=True)
    return Ranking(groups[order], positives, first, edges[found], edges[found + 1])


def measure_ranking(ranking: Ranking, weights: Floats) -> tuple[Floats, Floats]:
    """AUROC and average precision, each (R,), of weighted images; NaN without a positive or a negative.

    AUROC is the share of the pairs of a positive and a negative that stand in the right order, ties counted half (Mann
    and Whitney). Average precision is the sum over the scores of the gain in recall times the precision, without
    interpolation. Both as in scikit-learn.

    Args:
        weights: (R, G) of the groups.
    """
    if not len(ranking.positives):
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    image_weights = np.take(weights, ranking.groups, axis=1)
    before = np.zeros((len(weights), image_weights.shape[1] + 1))
    np.cumsum(image_weights, axis=1, out=before[:, 1:])
    gained = np.add.reduceat(image_weights[:, ranking.positives], ranking.blocks, axis=1)
    hits = np.cumsum(gained, axis=1)
    starts, ends = before[:, ranking.starts], before[:, ranking.ends]
    num_positives = hits[:, -1]
    num_negatives = before[:, -1] - num_positives
    # Negatives above the block are starts - (hits - gained), those below or in it count whole or half.
    above, within = starts - hits + gained, ends - starts - gained
    pairs = (gained * (num_negatives[:, None] - above - within / 2)).sum(axis=1)
    precision = hits / np.maximum(ends, 1)
    exists = (num_positives > 0) & (num_negatives > 0)
    area = np.divide(pairs, num_positives * num_negatives, out=np.full(len(weights), np.nan), where=exists)
    mean = np.divide((gained * precision).sum(axis=1), num_positives, out=np.full(len(weights), np.nan), where=exists)
    return area, mean


def resample_ranking(probabilities: Floats, labels: Labels, groups: Labels, classes: Sequence[str]) -> Statistic:
    """`auroc/<class>`, `average_precision/<class>`, and their means over the classes that have images.

    Args:
        probabilities: (N, C).
        labels: (N,) indices into `classes`.
        groups: (N,) indices of `bootstrap.index_groups`.
        classes: C names.

    Returns:
        A statistic that also gives `macro_auroc` and `macro_average_precision`, NaN where that of one class is.
    """
    rankings = {name: rank(probabilities[:, i], labels == i, groups) for i, name in enumerate(classes)}
    measured = [name for name, ranking in rankings.items() if len(ranking.positives)]

    def measure(weights: Floats) -> dict[str, Floats]:
        pairs = {name: measure_ranking(ranking, weights) for name, ranking in rankings.items()}
        figures: dict[str, Floats] = {}
        for key, which in (("auroc", 0), ("average_precision", 1)):
            figures |= {f"{key}/{name}": pair[which] for name, pair in pairs.items()}
            figures[f"macro_{key}"] = np.mean([pairs[name][which] for name in measured], axis=0)
        return figures

    return measure


def summarise_ranking(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> dict[str, float | None]:
    """The figures of `resample_ranking` for the images as they are; None where a class has no positive or no negative.

    Args:
        probabilities: (N, C), N at least 1.
        labels: (N,) indices into `classes`.
    """
    figures = resample_ranking(probabilities, labels, np.zeros(len(labels), np.int64), classes)(np.ones((1, 1)))
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in figures.items()}
