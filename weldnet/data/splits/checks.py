"""The checks on splits, whoever made them; leaks have a file of their own."""

from collections.abc import Sequence

import polars as pl

from weldnet.data.settings import MAX_CLASSES
from weldnet.data.sources.manifest import SPLITS
from weldnet.errors import InputError, count, list_some, shorten
from weldnet.spelling import tidy_all


def check_splits(table: pl.DataFrame) -> list[str]:
    """Reasons to doubt the splits other than leaks (see `find_leaks`), one sentence each."""
    if table["split"].n_unique() == 1:
        return []
    if table["group"].null_count() == len(table):
        return ["the splits come without groups, so a weld may be on both sides; give a group column, or data.group_by"]
    warnings = []
    if missing := table["group"].null_count():
        warnings.append(f"{missing} of {len(table)} images have no group, so their welds are unknown")
    if known := shared_groups(table, "train", "val"):
        warnings.append(
            f"validation holds welds that training knows ({len(known)} groups: {shorten(known)}), so its figures are "
            "too high for unseen welds"
        )
    return warnings


def shared_groups(table: pl.DataFrame, *splits: str) -> list[str]:
    """The groups that are in all of these splits, sorted."""
    where = table.drop_nulls("group").filter(pl.col("split").is_in(splits))
    counts = where.group_by("group").agg(pl.col("split").n_unique())
    return sorted(counts.filter(pl.col("split") == len(splits))["group"])


def check_classes(table: pl.DataFrame, known: Sequence[str] | None = None) -> None:
    """Refuses splits from which nothing can be learned or measured or, to test a checkpoint, classes it does not know.

    `known` are the classes of the checkpoint; None before training.
    """
    classes = sorted(table["label"].unique())
    if known is not None:
        if strangers := sorted(set(classes) - set(known)):
            raise InputError(
                f"the data hold the classes {shorten(strangers)}, which the checkpoint does not know; it knows "
                f"{', '.join(known)}"
            )
        return
    if len(classes) > MAX_CLASSES:
        raise InputError(
            f"{len(classes)} classes ({shorten(classes)}); allowed are {MAX_CLASSES}. Are these the classes, or the "
            "welds?"
        )
    if len(classes) < 2:
        raise InputError(f"one class only ({classes[0]}); a classifier needs two or more")
    trained = set(table.filter(split="train")["label"])
    if not trained:
        others = " and ".join(split for split in SPLITS if split in table["split"])
        raise InputError(
            f"no image in train, only in {others}; training needs train and val: give train some images, or leave the "
            "splits out, and weldnet makes them"
        )
    for split in ("test", "val"):
        if strangers := sorted(set(table.filter(split=split)["label"]) - trained):
            raise InputError(
                f"{', '.join(strangers)}: in {split} but not in train, so it cannot be learned; train has "
                f"{', '.join(sorted(trained))}"
            )
    if "val" not in table["split"]:
        raise InputError(
            "no image in val; training needs train and val (data.shares, or the source's own splits)"
            f"{_explain_few(table)}"
        )


def _explain_few(table: pl.DataFrame) -> str:
    """What to do where a class has too few welds, with the images of each; empty where each has enough."""
    counts = table.drop_nulls("group").group_by("label", "group").len().sort("label", "group")
    welds: dict[str, list[str]] = {}
    for label, group, number in counts.iter_rows():
        welds.setdefault(label, []).append(f"{group} ({count(number, 'image')})")
    rarest = min(welds, key=lambda label: len(welds[label]), default="")
    if not welds or len(welds[rarest]) >= 3:
        return ""
    return (
        f". Each class needs at least 3 welds, for train, val and test; {rarest} has {len(welds[rarest])}:\n"
        f"{list_some([f'{label}: {shorten(names)}' for label, names in welds.items()])}\n"
        "Type data.val=known: validation then takes photographs of the training welds, and what it chooses and "
        "measures holds for known welds. Or photograph further welds, or give a manifest with the splits. Do not make "
        "the groups finer than one weld: the test would measure memory"
    )


def validation_groups(table: pl.DataFrame) -> str:
    """`known` if a group of val is also in train, `unseen` if none is, `per_image`, or `unknown` without groups."""
    if any(table.filter(split=split)["group"].drop_nulls().is_empty() for split in ("train", "val")):
        return "unknown"
    if shared_groups(table, "train", "val"):
        return "known"
    return "per_image" if (table["group"] == tidy_all(table["path"])).all() else "unseen"
