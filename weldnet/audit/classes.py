"""Classes and groups: leaks between the splits, classes too small to learn or to test, classes that are one weld."""

from typing import Any

import polars as pl

from weldnet.audit.findings import Finding, Severity
from weldnet.data.sources.manifest import SPLITS
from weldnet.evaluation.intervals import proportion

FEWEST_IMAGES = 5
"""A class with fewer images is too small to say anything about."""

_PURE = 0.95
_FEW_GROUPS = 2


def check_groups(samples: pl.DataFrame) -> list[Finding]:
    """`group_leak` for each group in more than one split; `no_groups` where images have none.

    Args:
        samples: table of `weldnet.data.sources.manifest.SCHEMA`.
    """
    lacking = samples["group"].null_count()
    findings = []
    if lacking:
        who = "nothing says" if lacking == len(samples) else f"of {lacking} of {len(samples)} images nothing says"
        findings.append(
            Finding(
                "no_groups",
                # Without splits of the source's own, training refuses to split by guess.
                "warning" if samples["split"].null_count() else "note",
                (),
                f"{who} which weld is shown, so leaks of welds between splits stay unseen",
            )
        )
    known = samples.drop_nulls(["group", "split"])
    leaking = known.filter(pl.col("split").n_unique().over("group") > 1)
    for (group,), rows in leaking.group_by("group", maintain_order=True):
        counts = {split: len(rows.filter(split=split)) for split in SPLITS}
        where = " and ".join(f"{split} ({count})" for split, count in counts.items() if count)
        severity: Severity = "error" if counts["test"] else "warning"
        what = "test does not measure unseen welds" if counts["test"] else "validation knows this weld"
        findings.append(Finding("group_leak", severity, tuple(rows["path"]), f"group {group} is in {where}: {what}"))
    return findings


def check_small_classes(samples: pl.DataFrame) -> list[Finding]:
    """`small_class` for each class with too few images or groups to learn or to test.

    Args:
        samples: table of `SCHEMA`, only the images that can be read.
    """
    labels = sorted(samples["label"].unique())
    has_splits = samples["split"].null_count() < len(samples)
    has_groups = not samples["group"].null_count() and samples["group"].n_unique() < len(samples)
    findings = []
    for label in labels:
        rows = samples.filter(label=label)
        splits = set(rows["split"])
        untrained = [split for split in ("val", "test") if split in splits and "train" not in splits]
        faults = {
            "it is the only class, and a classifier needs two": len(labels) == 1,
            f"it is in {' and '.join(untrained)} but not in train, so it cannot be learned": bool(untrained),
            f"it has only {len(rows)} image{'s' * (len(rows) > 1)}": len(rows) < FEWEST_IMAGES,
            "all its images are of one group, so no weld is left to test it": has_groups
            and rows["group"].n_unique() < 2,
            "it has no image in test, so it is not measured": has_splits
            and "test" in samples["split"]
            and "test" not in splits,
        }
        severity: Severity = "error" if len(labels) == 1 or untrained else "warning"
        if any(faults.values()):
            what = "; ".join(fault for fault, holds in faults.items() if holds)
            findings.append(Finding("small_class", severity, tuple(rows["path"]), f"class {label}: {what}"))
    return findings


def check_confounding(samples: pl.DataFrame) -> list[Finding]:
    """`class_group_confounded` for each class that nearly only one or two groups show, which show nearly nothing else.

    A network can tell such a class by the weld instead of the defect. Looked for in train, or in all images where
    there are no splits.

    Args:
        samples: table of `SCHEMA`, only the images that can be read.
    """
    train = samples.filter(split="train") if "train" in samples["split"] else samples
    if train.is_empty() or train["group"].null_count() or train["label"].n_unique() < 2:
        return []
    counts = train.group_by("label", "group").len().with_columns(total=pl.col("len").sum().over("group"))
    pure = counts.filter(pl.col("len") >= _PURE * pl.col("total")).sort("len", descending=True)
    findings = []
    for label, size in train["label"].value_counts().sort("label").iter_rows():
        groups = pure.filter(label=label)
        share = groups["len"].sum() / size
        if size >= FEWEST_IMAGES and share >= _PURE and len(groups) <= _FEW_GROUPS:
            where = "training images" if len(train) < len(samples) else "images"
            names = " and ".join(groups["group"].sort())
            whose = f"group {names}, which shows" if len(groups) == 1 else f"groups {names}, which show"
            detail = (
                f"class {label}: {share:.0%} of its {where} are of {whose} hardly anything else; a network could learn "
                "the weld instead of the defect"
            )
            findings.append(Finding("class_group_confounded", "warning", (), detail))
    return findings


def count_samples(samples: pl.DataFrame) -> pl.DataFrame:
    """`label, split, group, images`: how many images each class has by split and group, sorted.

    `group` is null where every image has its own.
    """
    if samples["group"].n_unique() == len(samples):
        samples = samples.with_columns(group=pl.lit(None, pl.String))
    return samples.group_by("label", "split", "group").agg(images=pl.len()).sort("label", "split", "group")


def tabulate_recall(samples: pl.DataFrame) -> list[dict[str, Any]]:
    """For each class what a test that misses none would prove.

    Returns:
        For each class `label`, `images` and `groups` in test (`groups` None where unknown), and the exact lower bound
        on recall that each of them gives: `recall_bound`, `recall_bound_by_groups` (None where there are none).
    """
    has_groups = not samples["group"].null_count()
    rows = []
    for label in sorted(samples["label"].unique()):
        tested = samples.filter(label=label, split="test")
        images, groups = len(tested), tested["group"].n_unique() if has_groups else None
        by_images, by_groups = (proportion(number, number, side="lower")["low"] for number in (images, groups or 0))
        bounds = {"recall_bound": by_images, "recall_bound_by_groups": by_groups}
        rows.append({"label": label, "images": images, "groups": groups} | bounds)
    return rows
