"""Whether image size alone predicts the class: a network could then ignore the weld."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from weldnet.audit.classes import FEWEST_IMAGES
from weldnet.audit.findings import Finding

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Folds = list[tuple[Rows, Rows]]

SIZE = ("width", "height", (pl.col("width") / pl.col("height")).alias("aspect"))
"""What of a size a network could see."""

_MARGIN_OF_FEW = 0.35
_MARGIN = 0.15
_MOST_IMAGES = 5_000
_MOST_FOLDS = 5
FEWEST_GROUPS = 4
"""Fewer have too few permutations to distinguish a cue from the difference between any two welds."""
_PERMUTATIONS = 99
_EXTREMES = 3


@dataclass(frozen=True)
class SizeScore:
    """How well a small tree predicts the class, cross-validated, `by_group` where each fold holds out whole groups.

    `chance` is what guessing gives, 1 / C; `is_clear` whether the score is well and significantly above it.
    """

    balanced_accuracy: float
    chance: float
    by_group: bool
    is_clear: bool


def score_columns(samples: pl.DataFrame, columns: Sequence[str | pl.Expr], least: float = 0) -> SizeScore | None:
    """Trains a tree of depth 3 on some columns, cross-validated by group where every class has two groups or more.

    None where they cannot matter: one value for all, or fewer than two classes that are not tiny. Below `least`, the
    share of the way from chance to perfect, a score is not clear.
    """
    if len(samples) > _MOST_IMAGES:
        samples = samples.sample(_MOST_IMAGES, seed=0)
    table = samples.filter(pl.len().over("label") >= FEWEST_IMAGES)
    features = (
        table.select(pl.col(each) if isinstance(each, str) else each for each in columns).to_numpy().astype(np.float32)
    )
    classes, labels = np.unique(table["label"].to_numpy(), return_inverse=True)
    if len(classes) < 2 or not np.ptp(features, axis=0).any():
        return None
    folds, blocks, by_group = _make_folds(table, labels)
    score, chance = _score(features, labels, folds), 1 / len(classes)
    # Guesses on a few images stray far from chance: three standard deviations.
    margin = max(_MARGIN, least * (1 - chance), 3 * math.sqrt(chance * (1 - chance) / len(labels)))
    if by_group and len(blocks) == 1 and table["group"].n_unique() < len(table):
        # Too few welds for folds: sizes that only distinguish welds score higher by luck.
        margin = max(margin, _MARGIN_OF_FEW)
    is_clear = score >= chance + margin and _is_significant(features, labels, folds, blocks, score)
    return SizeScore(score, chance, by_group, is_clear)


def check_sizes(score: SizeScore | None, samples: pl.DataFrame) -> list[Finding]:
    """`size_predicts_class` where the score is clear, with the smallest and the largest of the samples."""
    if score is None or not score.is_clear:
        return []
    detail = (
        f"width, height and aspect alone predict the class with balanced accuracy {score.balanced_accuracy:.2f} "
        f"(chance {score.chance:.2f}); a network could learn the crop instead of the defect; first the "
        "smallest, then the largest"
    )
    return [
        Finding("size_predicts_class", "warning", find_extremes(samples, pl.col("width") * pl.col("height")), detail)
    ]


def find_extremes(samples: pl.DataFrame, by: str | pl.Expr) -> tuple[str, ...]:
    """The paths of the three lowest and the three highest, for a page to show."""
    ordered = samples.sort(by, "path")["path"]
    return tuple(dict.fromkeys([*ordered.head(_EXTREMES), *ordered.tail(_EXTREMES)]))


def _make_folds(table: pl.DataFrame, labels: Rows) -> tuple[Folds, list[Rows], bool]:
    """Folds as (train, held out) rows, the blocks of rows that a permutation keeps together, whether by group."""
    per_class = table.group_by("label").agg(groups=pl.col("group").n_unique(), images=pl.len())
    images, fewest = (int(per_class[name].min()) for name in ("images", "groups"))  # type: ignore[arg-type]
    has_groups = not table["group"].null_count() and fewest > 1
    if not has_groups or table["group"].n_unique() == len(table):
        plain = StratifiedKFold(min(_MOST_FOLDS, images), shuffle=True, random_state=0)
        return list(plain.split(labels, labels)), [np.arange(len(table))], has_groups
    groups = np.unique(table["group"].to_numpy(), return_inverse=True)[1]
    grouped = StratifiedGroupKFold(min(_MOST_FOLDS, fewest), shuffle=True, random_state=0)
    # Otherwise single images are permuted.
    order = np.argsort(groups, kind="stable")
    blocks = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if fewest >= FEWEST_GROUPS else [order]
    return list(grouped.split(labels, labels, groups)), blocks, True


def _score(features: Floats, labels: Rows, folds: Folds) -> float:
    """Balanced accuracy of the held-out images of all folds together."""
    # Half the time of cross_val_predict, which checks the same input five hundred times.
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    predicted = np.empty_like(labels)
    for train, held_out in folds:
        known = labels[train]
        tree.fit(features[train], known, sample_weight=1 / np.bincount(known)[known], check_input=False)
        predicted[held_out] = tree.predict(features[held_out], check_input=False)
    return float((np.bincount(labels, predicted == labels) / np.bincount(labels)).mean())


def _is_significant(features: Floats, labels: Rows, folds: Folds, blocks: Sequence[Rows], score: float) -> bool:
    """Whether sizes dealt out at random hardly ever reach the score.

    Images of one weld often have one size. So where there are enough groups, whole groups exchange their sizes,
    shuffled within each. There are few such permutations, so some may reach the score by chance.
    """
    allowed = 4 if len(blocks) > 1 else 0
    rng, reached = np.random.default_rng(0), 0
    for _ in range(_PERMUTATIONS):
        reached += _score(_deal(features, blocks, rng), labels, folds) >= score
        if reached > allowed:
            return False
    return True


def _deal(features: Floats, blocks: Sequence[Rows], rng: np.random.Generator) -> Floats:
    """Gives the rows of each block, shuffled, to a random block, and repeats them where that is larger."""
    dealt = np.empty_like(features)
    for block, source in zip(blocks, rng.permutation(len(blocks)), strict=True):
        dealt[block] = features[np.resize(rng.permutation(blocks[source]), len(block))]
    return dealt
