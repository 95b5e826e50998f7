"""The checks on splits, whoever made them: groups and contents in more than one, classes, what a network has seen."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weldnet.data.duplicates import Pairs
from weldnet.data.settings import MAX_CLASSES
from weldnet.data.sources.groups import explain_groups
from weldnet.data.sources.manifest import SPLITS
from weldnet.errors import InputError, count, list_some, shorten
from weldnet.spelling import find_alike, tidy, tidy_all

Fingerprints = NDArray[np.int64]

ALL_THE_SAME = "To continue all the same, type data.allow_leak=true; every report will mention it"
_TO_ONE_SIDE = (
    "Move each group and each copy to one side: weldnet-audit with the same data keys and audit.suggest_split=FILE.csv "
    "writes such a split"
)

MANY_VIEWS = 0.05
"""Of the test images: that many whose spot is seen in train or val are refused where the welds are unknown."""


def find_leaks(table: pl.DataFrame) -> list[str]:
    """Why a test score would measure memory: groups in test that are also in train or val, files in several splits.

    One sentence each. Files are compared by the column `digest`, the SHA-256 of each, where there is one.
    """
    leaks = [
        f"{count(len(groups), 'group')} in test also in {other}: {shorten(groups)}"
        for other in ("train", "val")
        if (groups := shared_groups(table, "test", other))
    ]
    if "digest" in table.columns:
        by_content = table.drop_nulls("digest").group_by("digest").agg("path", "split")
        across = by_content.filter(pl.col("split").list.n_unique() > 1).sort(pl.col("path").list.first())
        copies = [
            " = ".join(f"{path} ({split})" for path, split in zip(row["path"], row["split"], strict=True))
            for row in across.iter_rows(named=True)
        ]
        if copies:
            leaks.append(f"{count(len(copies), 'identical file')} in more than one split: {shorten(copies)}")
    return leaks


def find_seen_views(table: pl.DataFrame, pairs: Pairs) -> list[str]:
    """The test images of which train or val shows the same spot, each with one such image.

    `pairs`, int64 (P, 2), are numbers in the table's column `row`, which copies share, that show the same spot.
    """
    both = pl.DataFrame(np.concatenate([pairs, pairs[:, ::-1]]), schema=["row", "row_other"], orient="row")
    samples = table.select("path", "split", "row").with_row_index("index")
    seen = (
        samples.filter(split="test")
        .join(both, on="row")
        .join(samples.select(pl.all().name.suffix("_other")), on="row_other")
    )
    seen = seen.filter(pl.col("split_other") != "test").sort("index", "index_other")
    named = pl.format("{} = {} ({})", "path", "path_other", "split_other")
    return seen.unique("index", keep="first", maintain_order=True).select(named).to_series().to_list()


def refuse_views(leak: str, table: pl.DataFrame) -> None:
    """Refuses spots that are seen again in test, where the welds are unknown or each image counts as one."""
    refuse_leaks(
        [leak],
        "Name the weld of each photograph: weldnet-audit with the same data keys and audit.suggest_groups=FILE.csv "
        "writes a manifest with one group for each spot",
        advice=explain_groups(table, even_per_image=False),
    )


def find_contradictions(table: pl.DataFrame) -> list[str]:
    """Probable mistakes, one sentence each: one content under two labels, groups that differ only in case or blanks."""
    sentences = []
    if "digest" in table.columns:
        of_content = table.drop_nulls("digest").group_by("digest").agg("path", "label")
        twice = of_content.filter(pl.col("label").list.n_unique() > 1)["path"].list.join(" = ").sort().to_list()
        if twice:
            sentences.append(f"{count(len(twice), 'file')} with more than one label, so one is wrong: {shorten(twice)}")
    if alike := find_alike(table["group"]):
        shown = [" and ".join(names) for names in alike]
        sentences.append(f"groups that differ by case or blanks only count as different welds: {shorten(shown)}")
    return sentences


def refuse_leaks(leaks: Sequence[str], remedy: str = _TO_ONE_SIDE, advice: str = "") -> None:
    if leaks:
        found = f"these data leak, so a score would not measure unseen welds:\n{list_some(leaks)}"
        named = ", where the weld of each photograph is known" if advice and remedy == _TO_ONE_SIDE else ""
        raise InputError(f"{found}\n{remedy}{named}. {ALL_THE_SAME}{'.' if advice else ''}", advice)


def fingerprints(digests: pl.Series) -> Fingerprints:
    """The first 8 bytes of each SHA-256 (64 hex digits): int64 (N,), in the same order.

    Two different files of a million share one with a probability of 3e-8.
    """
    return np.frombuffer(bytes.fromhex("".join(digests.str.head(16))), ">i8").astype(np.int64)


def fingerprint(content: bytes) -> int:
    """The same of one file's content."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], signed=True)


def fingerprint_names(names: pl.Series) -> Fingerprints:
    """The fingerprints of the distinct names, sorted, without null."""
    distinct = names.drop_nulls().unique()
    return np.array(sorted(fingerprint(name.encode()) for name in distinct), np.int64)


def is_known(table: pl.DataFrame, known: Fingerprints) -> NDArray[np.bool_]:
    """Whether the content of each image of a table with `digest` is among the fingerprints: bool (N,)."""
    return np.isin(fingerprints(table["digest"]), known)


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
            f"validation holds welds that training knows ({count(len(known), 'weld')}: {shorten(known)}), so its "
            "figures are too high for unseen welds"
        )
    return warnings


def shared_groups(table: pl.DataFrame, *splits: str) -> list[str]:
    """The groups that are in all of these splits, sorted."""
    where = table.drop_nulls("group").filter(pl.col("split").is_in(splits))
    counts = where.group_by("group").agg(pl.col("split").n_unique())
    return sorted(counts.filter(pl.col("split") == len(splits))["group"])


def count_classes(table: pl.DataFrame) -> None:
    """Refuses a table of one class, which is often the folder above those of the classes, or of very many."""
    classes = sorted(table["label"].unique())
    if len(classes) > MAX_CLASSES:
        raise InputError(
            f"{len(classes)} classes ({shorten(classes)}); allowed are {MAX_CLASSES}. Are these the classes, or the "
            "welds?"
        )
    if len(classes) < 2:
        above = os.path.commonpath([os.path.dirname(path) for path in table["path"]])
        below = {path[len(above) + 1 :].partition("/")[0] for path in table["path"] if os.path.dirname(path) != above}
        # Not the folders of splits, nor those in which a manifest's photographs lie.
        is_meant = below and classes[0] in map(tidy, above.split(os.sep))
        meant = f". If its folders are the classes ({shorten(sorted(below))}), type {above} instead" if is_meant else ""
        raise InputError(f"one class only ({classes[0]}); a classifier needs two or more{meant}")


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
    count_classes(table)
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
        raise InputError(f"no image in val{_explain_few(table)}")


def _explain_few(table: pl.DataFrame) -> str:
    """What to do where the welds, of which each has its group, are too few to give val its own; with their images."""
    train = table.filter(split="train")
    few, counts = _count_welds(table)
    needs = "each class needs at least 3 welds, for train, val and test"
    if not few:
        # The source has its own test.
        few, counts = _count_welds(train)
        needs = "val is taken from train by whole welds, of which each class needs at least 3"
    known = (
        "Type data.val=known: validation then takes photographs of the training welds, and what it chooses and "
        "measures holds for known welds. Or photograph"
    )
    has_several = not train.filter(pl.struct("label", "group").is_duplicated()).is_empty()
    return (
        f": {needs}; {shorten(few or ['here they share their welds'])}:\n{list_some(counts)}\n"
        f"{known if has_several else 'Photograph'} further welds, or give a manifest with the splits. Do not make "
        "the groups finer than one weld: the test would measure memory"
    )


def _count_welds(table: pl.DataFrame) -> tuple[list[str], list[str]]:
    """Which classes have fewer than 3 welds, and the images of each weld by class."""
    welds: dict[str, list[str]] = {}
    for label, group, number in table.group_by("label", "group").len().sort("label", "group").iter_rows():
        welds.setdefault(label, []).append(f"{group} ({count(number, 'image')})")
    few = [f"{label} has {len(names)}" for label, names in welds.items() if len(names) < 3]
    return few, [f"{label}: {shorten(names)}" for label, names in welds.items()]


def validation_groups(table: pl.DataFrame) -> str:
    """`known` if a group of val is also in train, `unseen` if none is, `per_image`, or `unknown` without groups."""
    if any(table.filter(split=split)["group"].drop_nulls().is_empty() for split in ("train", "val")):
        return "unknown"
    if shared_groups(table, "train", "val"):
        return "known"
    return "per_image" if (table["group"] == tidy_all(table["path"])).all() else "unseen"
