"""The names of splits and of classes, and which of these are probably mistakes."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from weldnet.data.sources.found import Found
from weldnet.errors import InputError
from weldnet.spelling import find_alike, tidy

SPLIT_NAMES = {
    "train": ("train", "training", "trainings", "trn", "trainval"),
    "val": ("val", "valid", "validation", "validate", "validierung", "validierungs", "eval", "evaluation", "dev"),
    "test": ("test", "testing", "tests", "tst", "holdout", "heldout", "prüf", "prüfung"),
}
"""The names of each split, in any case, with digits, separators and the words of `_FILLING` around them."""

_SPLIT_OF = {word: split for split, words in SPLIT_NAMES.items() for word in words}
_FILLING = r"(?:data|dataset|set|split|images?|imgs?|pics|pictures?|photos?|samples?|bilder|daten|satz)"
_AROUND = re.compile(rf"^{_FILLING}+|{_FILLING}+$")

_ORDINARY = ("valid",)
"""Also the name of a class, beside `invalid`."""


def find_word(name: str) -> str:
    """The word of `SPLIT_NAMES` that a name is: `01_Train-Images` is `train`; empty where it is none."""
    letters = re.sub(r"[\W\d_]+", "", tidy(name)).casefold()
    word = _AROUND.sub("", letters)
    return word if word in _SPLIT_OF else ""


def find_split(name: str) -> str | None:
    """`train`, `val` or `test`, where a name is that of a split."""
    return _SPLIT_OF.get(find_word(name))


def find_hints(name: str) -> set[str]:
    """The splits that single words of a name are: of `train_good`, `trainA` or `good (test)`."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", tidy(name)))
    return {split for word in words if (split := find_split(word))}


def name_splits(names: Iterable[str], source: Path) -> Mapping[str, str]:
    """The split of each name that is one of a split; refuses `val` beside `eval`, of which one may be a test."""
    splits = {name: split for name in names if (split := find_split(name))}
    for split in SPLIT_NAMES:
        same = sorted(name for name in splits if splits[name] == split)
        # val, valid and validation are one word.
        if len({find_word(name)[0] for name in same}) > 1:
            raise InputError(
                f"{source}: {' and '.join(same)} would all be taken for {split}; name the splits train, val and test"
            )
    return splits


@dataclass(frozen=True)
class Misnamed:
    """Names that training refuses: a kind of the audit, what is wrong, each name with its first image, all images."""

    kind: str
    detail: str
    where: tuple[str, ...]
    paths: tuple[str, ...]


def find_misnamed(found: Found) -> list[Misnamed]:
    """The probable mistakes in the names of the classes that a source found; none in those of drawn images."""
    if found.origin is None:
        return []
    samples = found.table
    first = dict(samples.group_by("label").agg(pl.col("path").first()).iter_rows())
    named = found.locate(first.values())
    misnamed = []

    def add(kind: str, detail: str, labels: Sequence[str]) -> None:
        where = tuple(f"{label!r}, first in {named[first[label]]}" for label in labels)
        paths = tuple(samples.filter(pl.col("label").is_in(list(labels)))["path"])
        misnamed.append(Misnamed(kind, detail, where, paths))

    for alike in find_alike(samples["label"]):
        add("alike_names", "classes whose names differ only in case or blanks; give them one spelling", alike)
    if suspects := _find_split_labels(sorted(first)):
        detail = (
            "classes with the names of splits. The folders of splits are named train, val and test, and those of "
            "classes are below them; in a manifest the split has a column of its own: path,label,split. Rename them"
        )
        add("split_names", detail, suspects)
    return misnamed + (_find_splits_below(samples, found.origin) if found.origin == found.within else [])


def _find_split_labels(labels: Sequence[str]) -> list[str]:
    """The labels that are names of splits, or hold those of train or of several: a leak test is no split."""
    exact = [label for label in labels if find_split(label)]
    if exact and (len(exact) == len(labels) or any(label.casefold() not in _ORDINARY for label in exact)):
        return exact
    hints = {label: found for label in labels if label not in exact and (found := find_hints(label))}
    meant = set().union(*hints.values())
    return list(hints) if "train" in meant or len(meant) > 1 else []


def _find_splits_below(samples: pl.DataFrame, root: Path) -> list[Misnamed]:
    """Folders of splits below those of the classes, whose images would all be in one split."""
    depth = 2 if samples["split"].null_count() < len(samples) else 1
    folders = samples.select(folder=pl.col("path").str.replace(r"/[^/]*$", "")).unique(maintain_order=True)
    below: dict[str, set[str]] = {}
    for folder in folders["folder"]:
        parts = os.path.relpath(folder, root).split(os.sep)
        for level in range(depth, len(parts)):
            if find_split(parts[level]):
                below.setdefault(os.path.join(root, *parts[:level]), set()).add(parts[level])
    where, inside = [], pl.lit(False)
    for above, names in sorted(below.items()):
        splits = {find_split(name) for name in names}
        if "train" in splits or len(splits) > 1:
            where.append(f"{above} holds {' and '.join(sorted(names))}")
            inside |= pl.col("path").str.starts_with(os.path.join(above, ""))
    if not where:
        return []
    hint = f", or type data.root={next(iter(below))}" if samples["label"].n_unique() == 1 else ""
    detail = (
        "folders of splits below those of classes, whose images would all be in one split. Splits are above classes, "
        f"{root}/train/<class>/*: move the folders, or write a manifest, path,label,split{hint}"
    )
    return [Misnamed("split_names", detail, tuple(where), tuple(samples.filter(inside)["path"]))]
