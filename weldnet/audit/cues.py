"""What of a photograph predicts its class or its split by itself: its size, its look, or when it was taken."""

import math
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from weldnet.audit.classes import FEWEST_IMAGES
from weldnet.audit.findings import Finding, Severity
from weldnet.console import watch
from weldnet.data.sources.groups import PART

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Folds = list[tuple[Rows, Rows]]

_MARGIN_OF_FEW = 0.35
_MARGIN = 0.15
_MOST_IMAGES = 5_000
_MOST_FOLDS = 5
FEWEST_GROUPS = 4
"""Fewer have too few permutations to distinguish a cue from the difference between any two welds."""
_PERMUTATIONS = 99
_EXTREMES = 3

_ENDS = {
    "size": "first the narrowest, then the widest",
    "look": "first the lowest, then the highest",
    "order": "the first ones, then the last ones",
}
_MOST_SHARED = 0.05
"""The share of file names whose numbers recur, above which they are not the numbers of one camera."""


class Cue(NamedTuple):
    """Columns of facts from which a small tree predicts; a page shows the extremes of the first one.

    `kind` and what is predicted name the finding, as in `look_predicts_class`. `least` is the fraction of the way from
    chance to perfect below which nothing is found: a defect changes the look, too.
    """

    kind: str
    name: str
    columns: tuple[str | pl.Expr, ...]
    least: float = 0.5
    severity: Severity = "note"


SIZE = Cue(
    "size",
    "size",
    ("width", "height", (pl.col("width") / pl.col("height")).alias("aspect")),
    least=0,
    severity="warning",
)
_CUES = (
    Cue("look", "brightness", ("mean", "shadows", "lights")),
    Cue("look", "contrast", ("deviation",)),
    Cue("look", "colour", ("red", "blue")),
    Cue("look", "sharpness", ("sharpness",)),
    Cue("order", "the order of the numbers in the file names", ("number",)),
    Cue("order", "the date on which the camera took it", ("date",)),
)
_OF_CLASSES = (SIZE, *_CUES)
_OF_SPLITS = (*_CUES, Cue("look", SIZE.name, SIZE.columns))


def check_cues(samples: pl.DataFrame) -> list[Finding]:
    """`size_predicts_class`, `look_predicts_class`, `order_predicts_class`, and the same of test and validation.

    Of a split, size is part of its look. Fewer than four welds in a split prove nothing.
    """
    table = samples.with_columns(
        # Ranks, which a tree distinguishes as float32. A photograph without a date ranks before all others.
        date=pl.col("taken").rank("dense").fill_null(0),
        number=number_names(samples),
    )
    tasks: list[tuple[pl.DataFrame, Cue, str, str]] = [
        (table, cue, "class", "predicts the class") for cue in _OF_CLASSES
    ]
    for split in ("test", "val"):
        sides = table.filter(pl.col("split").is_in(["train", split])).with_columns(label="split")
        welds = sides.group_by("label").agg(pl.coalesce("group", "path").n_unique())["group"]
        if len(welds) < 2 or min(welds) < FEWEST_GROUPS:
            continue
        tasks += [(sides, cue, "split", f"distinguishes {split} from train") for cue in _OF_SPLITS]
    found = (find_cue(*task) for task in watch(tasks, len(tasks), "looking for cues", "cues"))
    return [finding for finding in found if finding]


def find_cue(
    samples: pl.DataFrame, cue: Cue, target: str = "class", claim: str = "predicts the class"
) -> Finding | None:
    """Cross-validates a decision tree of depth 3 on a cue, by group if every class has two groups or more.

    Returns None if its balanced accuracy is not well and significantly above chance, if the columns are constant, or
    if fewer than two classes have `FEWEST_IMAGES`.
    """
    table = samples.sample(_MOST_IMAGES, seed=0) if len(samples) > _MOST_IMAGES else samples
    table = table.filter(pl.len().over("label") >= FEWEST_IMAGES)
    features = table.select(cue.columns).to_numpy().astype(np.float32)
    classes, labels = np.unique(table["label"].to_numpy(), return_inverse=True)
    if len(classes) < 2 or not np.ptp(features, axis=0).any():
        return None
    folds, blocks, has_few_groups = _make_folds(table, labels)
    score, chance = _score(features, labels, folds), 1 / len(classes)
    # On a few images guesses can score far above chance by luck: allow three standard deviations.
    margin = max(_MARGIN, cue.least * (1 - chance), 3 * math.sqrt(chance * (1 - chance) / len(labels)))
    if has_few_groups:
        # Too few welds to permute whole: a size that distinguishes welds, not classes, scores higher by luck.
        margin = max(margin, _MARGIN_OF_FEW)
    if score < chance + margin or not _is_significant(features, labels, folds, blocks, score):
        return None
    detail = f"{cue.name} alone {claim} with balanced accuracy {score:.2f} (chance {chance:.2f}); {_ENDS[cue.kind]}"
    ordered = samples.sort(cue.columns[0], "path")["path"]
    # For a page to show.
    extremes = tuple(dict.fromkeys([*ordered.head(_EXTREMES), *ordered.tail(_EXTREMES)]))
    return Finding(f"{cue.kind}_predicts_{target}", cue.severity, extremes, detail)


def _make_folds(table: pl.DataFrame, labels: Rows) -> tuple[Folds, list[Rows], bool]:
    """Returns the folds, as (train, held-out) rows; the blocks that a permutation exchanges; whether groups are few."""
    per_class = table.group_by("label").agg(groups=pl.col("group").n_unique(), images=pl.len())
    images, fewest = (int(per_class[name].min()) for name in ("images", "groups"))  # type: ignore[arg-type]
    if table["group"].null_count() or fewest < 2 or table["group"].n_unique() == len(table):
        plain = StratifiedKFold(min(_MOST_FOLDS, images), shuffle=True, random_state=0)
        return list(plain.split(labels, labels)), [np.arange(len(table))], False
    groups = np.unique(table["group"].to_numpy(), return_inverse=True)[1]
    grouped = StratifiedGroupKFold(min(_MOST_FOLDS, fewest), shuffle=True, random_state=0)
    order, is_few = np.argsort(groups, kind="stable"), fewest < FEWEST_GROUPS
    # With too few groups, all rows are one block, within which single images are permuted.
    blocks = [order] if is_few else np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return list(grouped.split(labels, labels, groups)), blocks, is_few


def _score(features: Floats, labels: Rows, folds: Folds) -> float:
    """Balanced accuracy of the held-out images of all folds together."""
    # Half the time of cross_val_predict, which checks the same input five hundred times.
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    predicted = np.empty_like(labels)
    with config_context(skip_parameter_validation=True):
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


def number_names(samples: pl.DataFrame) -> pl.Series:
    """The rank of each photograph by the numbers in its name, from 0; the class in the name does not count.

    All are 0 where too many names have the same numbers: then no camera counted them, and each class begins at 1.
    """
    classes = {label: re.compile(_spell(label), re.IGNORECASE) for label in samples["label"].unique()}
    numbers = []
    for path, label in samples.select("path", "label").iter_rows():
        stem = os.path.splitext(os.path.basename(path))[0]
        numbers.append(tuple(int(digits) for digits in re.findall("[0-9]+", classes[label].sub(" ", stem))))
    rank_of = {each: rank for rank, each in enumerate(sorted(set(numbers)))}
    ranks = pl.Series([rank_of[each] for each in numbers], dtype=pl.Int64)
    num_shared = int(ranks.is_duplicated().sum())
    return ranks if num_shared <= _MOST_SHARED * len(ranks) else pl.zeros(len(ranks), pl.Int64, eager=True)


def _spell(label: str) -> str:
    """A pattern for a class as a part of a name, whatever stands between its words."""
    words = r"[\W_]+".join(PART.findall(label))
    return rf"(?<![^\W_]){words}(?![^\W_])"
