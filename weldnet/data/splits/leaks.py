"""The leak guard: groups and contents in more than one split, and what a network has seen."""

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weldnet.data.duplicates import Pairs
from weldnet.data.sources.groups import explain_groups
from weldnet.data.splits.checks import shared_groups
from weldnet.errors import InputError, count, list_some, shorten
from weldnet.spelling import find_alike

Fingerprints = NDArray[np.int64]

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
    samples = table.select("path", "split", "row").with_row_index("place")
    seen = (
        samples.filter(split="test")
        .join(both, on="row")
        .join(samples.select(pl.all().name.suffix("_other")), on="row_other")
    )
    seen = seen.filter(pl.col("split_other") != "test").sort("place", "place_other")
    named = pl.format("{} = {} ({})", "path", "path_other", "split_other")
    return seen.unique("place", keep="first", maintain_order=True).select(named).to_series().to_list()


def refuse_views(leak: str, table: pl.DataFrame) -> None:
    """Refuses spots that are seen again in test, where the welds are unknown or each image counts as one."""
    raise InputError(
        f"these data leak, so a score would not measure unseen welds:\n  {leak}\n"
        f"{explain_groups(table, even_per_image=False)}; or a manifest that weldnet-audit with the same data keys and "
        "audit.suggest_groups=FILE.csv writes, with one group for each spot. To continue all the same, type "
        "data.allow_leak=true; every report will mention it"
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


def refuse_leaks(leaks: Sequence[str]) -> None:
    if leaks:
        raise InputError(
            f"these data leak, so a score would not measure unseen welds:\n{list_some(leaks)}\nMove each group and "
            "each copy to one side: weldnet-audit with the same data keys and audit.suggest_split=FILE.csv writes such "
            "a split. To continue all the same, type data.allow_leak=true; every report will mention it"
        )


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
