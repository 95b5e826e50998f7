"""Whether image size alone predicts the class: a network could then ignore the weld."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from weldnet.audit.classes import FEWEST_IMAGES
from weldnet.audit.findings import Finding

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Folds = list[tuple[Rows, Rows]]

_MARGIN_OF_FEW = 0.35
_MARGIN = 0.15
_MOST_IMAGES = 5_000
_MOST_FOLDS = 5
_FEWEST_BLOCKS = 4
_PERMUTATIONS = 99


@dataclass(frozen=True)
class SizeScore:
    """How well a small tree predicts the class from width, height and aspect, cross-validated.

    Attributes:
        chance: what guessing gives, 1 / C.
        by_group: whether each fold holds out whole groups.
        is_clear: whether the score is well and significantly above chance.
    """

    balanced_accuracy: float
    chance: float
    by_group: bool
    is_clear: bool


def score_sizes(samples: pl.DataFrame) -> SizeScore | None:
    """`score_columns` of width, height and aspect.

    Args:
        samples: `label`, `group`, `width` and `height` (pixels, upright) of the images that can be read.
    """
    return score_columns(samples, ("width", "height", (pl.col("width") / pl.col("height")).alias("aspect")))


def score_columns(samples: pl.DataFrame, columns: Sequence[str | pl.Expr]) -> SizeScore | None:
    """Trains a tree of depth 3 on some columns, cross-validated by group where every class has two groups or more.

    None where they cannot matter: one value for all, or fewer than two classes that are not tiny.

    Args:
        samples: `label`, `group` and the columns of the images that can be read.
    """
    if len(samples) > _MOST_IMAGES:
        samples = samples.sample(_MOST_IMAGES, seed=0)
    table = samples.filter(pl.len().over("label") >= FEWEST_IMAGES)
    features = (
        table.select(pl.col(each) if isinstance(each, str) else each for each in columns).to_numpy().astype(float)
    )
    classes, labels = np.unique(table["label"].to_numpy(), return_inverse=True)
    if len(classes) < 2 or not np.ptp(features, axis=0).any():
        return None
    folds, blocks, by_group = _make_folds(table, labels)
    score, chance = _score(features, labels, folds), 1 / len(classes)
    # Guesses on a few images stray far from chance: three standard deviations.
    margin = max(_MARGIN, 3 * math.sqrt(chance * (1 - chance) / len(labels)))
    if by_group and len(blocks) == 1 and table["group"].n_unique() < len(table):
        # Too few welds for folds: sizes that only distinguish welds score higher by luck.
        margin = max(margin, _MARGIN_OF_FEW)
    is_clear = score >= chance + margin and _is_significant(features, labels, folds, blocks, score)
    return SizeScore(score, chance, by_group, is_clear)


def check_sizes(score: SizeScore | None) -> list[Finding]:
    """`size_predicts_class` where the score is clear."""
    if score is None or not score.is_clear:
        return []
    detail = (
        f"width, height and aspect alone predict the class with balanced accuracy {score.balanced_accuracy:.2f} "
        f"(chance {score.chance:.2f}); a network could learn the crop instead of the defect"
    )
    return [Finding("size_predicts_class", "warning", (), detail)]


def _make_folds(table: pl.DataFrame, labels: Rows) -> tuple[Folds, list[Rows], bool]:
    """Folds as (train, held out) rows, the blocks of rows that a permutation keeps together, whether by group."""
    per_class = table.group_by("label").agg(groups=pl.col("group").n_unique(), images=pl.len())
    images, fewest = (int(per_class[name].min()) for name in ("images", "groups"))  # type: ignore[arg-type]
    if table["group"].null_count() or fewest < 2:
        plain = StratifiedKFold(min(_MOST_FOLDS, images), shuffle=True, random_state=0)
        return list(plain.split(labels, labels)), [np.arange(len(table))], False
    groups = np.unique(table["group"].to_numpy(), return_inverse=True)[1]
    grouped = StratifiedGroupKFold(min(_MOST_FOLDS, fewest), shuffle=True, random_state=0)
    # Few groups have too few permutations for a test; then single images are permuted.
    keep_groups = fewest >= _FEWEST_BLOCKS and groups.max() + 1 < len(groups)
    order = np.argsort(groups, kind="stable")
    blocks = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if keep_groups else [order]
    return list(grouped.split(labels, labels, groups)), blocks, True


def _score(features: Floats, labels: Rows, folds: Folds) -> float:
    """Balanced accuracy of the held-out images of all folds together."""
    tree = DecisionTreeClassifier(max_depth=3, class_weight="balanced", random_state=0)
    return float(balanced_accuracy_score(labels, cross_val_predict(tree, features, labels, cv=folds)))


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
