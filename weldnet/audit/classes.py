"""Classes and groups: names, leaks between the splits, classes that are too small, classes that are one weld."""

from typing import Any

import polars as pl

from weldnet.audit.findings import Finding, Severity
from weldnet.data.sources.found import UNREAD, Found
from weldnet.data.sources.groups import knows_groups
from weldnet.data.sources.manifest import SPLITS
from weldnet.data.sources.names import find_misnamed
from weldnet.errors import count, shorten
from weldnet.evaluation.intervals import proportion
from weldnet.spelling import find_alike

FEWEST_IMAGES = 5
"""A class with fewer images is too small for a finding about it."""

_PURE = 0.95
_FEW_GROUPS = 2


def check_names(found: Found) -> list[Finding]:
    """`alike_names` and `split_names` where training refuses a class; `alike_names` of groups; `unread_format`."""
    findings = [
        Finding(each.kind, "error", each.paths, f"{each.detail}: {shorten(each.where)}")
        for each in find_misnamed(found)
    ]
    unread = [
        Finding("unread_format", "warning", (path,), "a photograph that weldnet does not read")
        for path in sorted(found.skipped.get(UNREAD, ()))
    ]
    return findings + _find_alike_groups(found.table) + unread


def _find_alike_groups(samples: pl.DataFrame) -> list[Finding]:
    sets = find_alike(samples["group"])
    number = {name: index for index, alike in enumerate(sets) for name in alike}
    rows = samples.filter(pl.col("group").is_in(list(number))).select(
        "path", index=pl.col("group").replace_strict(number, return_dtype=pl.Int64)
    )
    paths = dict(rows.group_by("index").agg("path").iter_rows())
    detail = "groups that differ by case or blanks only count as different welds"
    return [
        Finding("alike_names", "warning", tuple(paths[index]), f"{detail}: {shorten(list(map(repr, alike)))}")
        for index, alike in enumerate(sets)
    ]


def check_groups(samples: pl.DataFrame) -> list[Finding]:
    """`group_leak` for each group in more than one split; `no_groups` where images have none."""
    findings = []
    if lacking := samples["group"].null_count():
        every = lacking == len(samples)
        which = "all images" if every else f"{lacking} of {len(samples)} images"
        paths = () if every else tuple(samples.filter(pl.col("group").is_null())["path"])
        # Without splits of the source's own, training refuses to split by guess.
        severity: Severity = "warning" if samples["split"].null_count() else "note"
        detail = f"the weld of {which} is unknown, so leaks of welds between splits stay unseen"
        findings.append(Finding("no_groups", severity, paths, detail))
    known = samples.drop_nulls(["group", "split"])
    leaking = known.filter(pl.col("split").n_unique().over("group") > 1)
    for (group,), rows in leaking.group_by("group", maintain_order=True):
        counts = {split: len(rows.filter(split=split)) for split in SPLITS}
        where = " and ".join(f"{split} ({count})" for split, count in counts.items() if count)
        severity = "error" if counts["test"] else "warning"
        effect = "test does not measure unseen welds" if counts["test"] else "validation knows this weld"
        findings.append(Finding("group_leak", severity, tuple(rows["path"]), f"group {group} is in {where}: {effect}"))
    return findings


def check_small_classes(samples: pl.DataFrame) -> list[Finding]:
    """`small_class` for each class with too few images or groups to learn or to test, of images that can be read."""
    labels = sorted(samples["label"].unique())
    has_groups = knows_groups(samples)
    findings = []
    for label in labels:
        rows = samples.filter(label=label)
        splits = set(rows["split"])
        untrained = [split for split in ("val", "test") if split in splits and "train" not in splits]
        fatal = {
            "it is the only class, and a classifier needs two": len(labels) == 1,
            f"it is in {' and '.join(untrained)} but not in train, so it cannot be learned": bool(untrained),
        }
        faults = fatal | {
            f"it has only {count(len(rows), 'image')}": len(rows) < FEWEST_IMAGES,
            "all its images are of one group, so no weld is left to test it": (
                has_groups and rows["group"].n_unique() < 2
            ),
            "it has no image in test, so it is not measured": "test" in samples["split"] and "test" not in splits,
        }
        if any(faults.values()):
            holding = "; ".join(fault for fault, holds in faults.items() if holds)
            severity: Severity = "error" if any(fatal.values()) else "warning"
            findings.append(Finding("small_class", severity, tuple(rows["path"]), f"class {label}: {holding}"))
    return findings


def check_confounding(samples: pl.DataFrame) -> list[Finding]:
    """`class_group_confounded` for each class that is seen on one or two groups, which show hardly anything else.

    A network can recognise such a class by the weld instead of the defect. Counts the training images that can be read,
    or all images where there are no splits.
    """
    train = samples.filter(split="train") if "train" in samples["split"] else samples
    if train.is_empty() or train["group"].null_count() or train["label"].n_unique() < 2:
        return []
    counts = train.group_by("label", "group").len().with_columns(total=pl.col("len").sum().over("group"))
    pure = counts.filter(pl.col("len") >= _PURE * pl.col("total")).sort("len", descending=True)
    where = "training images" if len(train) < len(samples) else "images"
    findings = []
    for label, size in train["label"].value_counts().sort("label").iter_rows():
        groups = pure.filter(label=label)
        share = groups["len"].sum() / size
        if size >= FEWEST_IMAGES and share >= _PURE and len(groups) <= _FEW_GROUPS:
            rows = train.filter(pl.col("group").is_in(groups["group"].to_list()), label=label)
            # One of each weld first, since a page shows the first few.
            paths = tuple(rows.sort(pl.int_range(pl.len()).over("group"), maintain_order=True)["path"])
            names = " and ".join(groups["group"].sort())
            whose = f"group {names}, which shows" if len(groups) == 1 else f"groups {names}, which show"
            detail = (
                f"class {label}: {'all' if share == 1 else f'{share:.0%} of'} its {where} show {whose} hardly anything "
                "else; a network could learn the weld instead of the defect"
            )
            findings.append(Finding("class_group_confounded", "warning", paths, detail))
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

    `label`, `images` and `groups` in test (`groups` None where unknown), and the exact lower bound on recall that each
    of them gives: `recall_bound`, `recall_bound_by_groups` (None where there are none).
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
