"""The tables of an audit's page: groups, what its test could prove, files."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from weldnet.audit.classes import count_samples
from weldnet.report.tables import Cell, Row, Table, show

_MOST_GROUPS = 24


def tabulate_groups(readable: pl.DataFrame) -> tuple[Table, int] | None:
    """Images of each class and group, the largest, and how many groups are left out; None where none is known."""
    counts = count_samples(readable)
    if counts.is_empty() or counts["group"].null_count():
        return None
    sizes = counts.group_by("group").agg(pl.col("images").sum(), pl.col("split").unique().sort())
    largest = sizes.sort("images", "group", descending=[True, False])[:_MOST_GROUPS].sort("group")
    heads = [Cell(group, [each for each in splits if each]) for group, _, splits in largest.iter_rows()]
    rows: list[Row] = []
    for (label,), table in counts.group_by("label", maintain_order=True):
        found, total = dict(table.group_by("group").agg(pl.col("images").sum()).iter_rows()), table["images"].sum()
        cells = (found.get(group, 0) for group in largest["group"])
        rows.append([str(label), *(Cell(f"{number:,}" if number else "·", share=number / total) for number in cells)])
    return Table(["class", *heads], rows), len(sizes) - len(largest)


def tabulate_proven(summary: Mapping[str, Any]) -> Table:
    """What a test of these images could prove for each class, if it missed none; without rows where none is a test."""
    heads = ["class", "images", "groups", "recall, by images", "by groups"]
    rows = [
        [show(row[name]) for name in ("label", "images", "groups")]
        + ["-" if row[name] is None else f"{row[name]:.3f}" for name in ("recall_bound", "recall_bound_by_groups")]
        for row in summary["recall_if_none_missed"]
    ]
    return Table(heads, rows if "test" in summary["splits"] else [])


def tabulate_files(summary: Mapping[str, Any]) -> Table:
    """Which formats, depths and sizes there are."""
    titles = {"formats": "format", "bit_depths": "bits a channel"}
    rows = [
        [title, ", ".join(f"{name}: {number:,}" for name, number in summary[key].items())]
        for key, title in titles.items()
    ]
    rows += [
        [side, f"{size['min']} to {size['max']} pixels, median {size['median']:g}"]
        for side, size in summary["sizes"].items()
        if size["min"] is not None
    ]
    return Table(["", "images"], rows)
