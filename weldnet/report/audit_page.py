"""An audit as one page that a person can read, print and hand on."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from PIL import Image

from weldnet.audit.audit import Audit
from weldnet.audit.findings import SEVERITIES, Finding
from weldnet.data.decode.formats import open_picture, read_content
from weldnet.data.decode.pictures import UnreadableImage, Window
from weldnet.data.sources.manifest import SPLITS
from weldnet.report.album import Album
from weldnet.report.charts import MOST_DOTS, draw_sizes, embed_chart
from weldnet.report.kinds import KINDS, group_findings
from weldnet.report.page import render
from weldnet.report.words import common_folder, count
from weldnet.spelling import tidy

_PICTURED = 24
_LISTED = 200
_PER_FINDING = 6
_PER_CLASS = 8
_CLASSES = 24
_ROWS = 200
_MOST_GROUPS = 24
_SIDE, _SIDE_ON_SHEET = 160, 110


def render_page(audit: Audit, summary: Mapping[str, Any]) -> str:
    """The page as HTML.

    Args:
        audit: what was found.
        summary: `weldnet.report.audit_report.summarise(audit)`.
    """
    readable = audit.images.filter(pl.col("reason").is_null())
    photographs = Photographs(audit)
    sizes = draw_sizes(readable)
    return render(
        "audit.html",
        verdict=judge(audit),
        counts=[(severity, len(audit.of(severity))) for severity in SEVERITIES],
        summary=summary,
        top=photographs.top,
        skipped=audit.skipped.describe(photographs.top) if audit.skipped else "",
        sections=[photographs.show_findings(*group) for group in group_findings(audit.findings)],
        splits=tabulate_splits(audit.images),
        groups=tabulate_groups(readable),
        sizes=sizes and embed_chart(sizes, "sizes"),
        num_dots=min(len(readable), MOST_DOTS),
        num_readable=len(readable),
        rows=summary["counts"][:_ROWS],
        sheet=photographs.show_classes(readable),
    )


def judge(audit: Audit) -> tuple[str, str]:
    """Two sentences: how much was found, and what it means for a test score."""
    errors, warnings = ({found.kind for found in audit.of(severity)} for severity in ("error", "warning"))
    first = f"{count(len(audit.of('error')), 'error')} and {count(len(audit.of('warning')), 'warning')} were found."
    if errors & {"group_leak", "cross_split_duplicate"}:
        return first, "A test score on these data would be too high: training sees what the test asks about."
    if "cross_label_duplicate" in errors:
        return first, "A test score on these data would be wrong: some pictures stand under two labels."
    if errors:
        return first, "Training would stop at the errors."
    if warnings & {"class_group_confounded", "size_predicts_class"}:
        return first, "A good test score may owe more to the weld or to the crop than to the defect."
    if warnings:
        return first, "Nothing makes a test score wrong, but read the warnings before you trust one."
    return "No error and no warning was found.", "Nothing found here makes a test score wrong."


def tabulate_splits(samples: pl.DataFrame) -> dict[str, Any]:
    """`columns` and `rows` of a table of images by class and split, or by class alone."""
    columns = list(SPLITS) if samples["split"].null_count() < len(samples) else ["images"]
    counted = samples.with_columns(pl.col("split").fill_null("images"))
    return {"columns": columns, "rows": _cross(counted, "split", columns)}


def tabulate_groups(readable: pl.DataFrame) -> dict[str, Any] | None:
    """Images by class and group, in train where there is one.

    Returns:
        `groups` (the largest), `rows` (class and, for each group, images and the share of the class), `left` (how
        many groups are not shown), `where`; None without groups of several images.
    """
    train = readable.filter(split="train")
    table = readable if train.is_empty() else train
    if table["group"].null_count() or table["group"].n_unique() in (0, len(table)):
        return None
    sizes = table["group"].value_counts(sort=True)
    groups = sorted(sizes["group"][:_MOST_GROUPS])
    totals = dict(table["label"].value_counts().iter_rows())
    rows = [
        (label, [(number, number / totals[label]) for number in numbers])
        for label, numbers in _cross(table, "group", groups)
    ]
    where = "all images" if train.is_empty() else "train"
    return {"groups": groups, "rows": rows, "left": len(sizes) - len(groups), "where": where}


def _cross(table: pl.DataFrame, column: str, values: Sequence[str]) -> list[tuple[str, list[int]]]:
    """How many images each class has with each of some values, by class."""
    counts = {(label, value): number for label, value, number in table.group_by("label", column).len().iter_rows()}
    return [(label, [counts.get((label, value), 0) for value in values]) for label in sorted(table["label"].unique())]


class Photographs:
    """Findings and classes with their photographs, in the order of the page until the album is full.

    Attributes:
        top: the folder that all photographs lie below.
    """

    def __init__(self, audit: Audit) -> None:
        self.top = common_folder(audit.images["path"])
        self.album, self.window = Album(), audit.window
        wanted = {path for found in audit.findings for path in found.paths[:_PER_FINDING]}
        rows = audit.images.filter(pl.col("path").is_in(list(wanted))).select("path", "label", "group", "split")
        self.known = {row["path"]: row for row in rows.iter_rows(named=True)}

    def show_findings(self, severity: str, kind: str, found: Sequence[Finding]) -> dict[str, Any]:
        """One section of the page: a kind of one severity, the first findings with their photographs."""
        num_pictured = _PICTURED if KINDS[kind].pictured else 0
        shown = []
        for number, finding in enumerate(found[: num_pictured + _LISTED]):
            first = finding.paths[:_PER_FINDING]
            pictured = [self._show(self.known[path], _SIDE) for path in first] if number < num_pictured else []
            paths = [self._shorten(path) for path in first]
            left = len(finding.paths) - len(first)
            shown.append({"detail": finding.detail, "figures": pictured, "paths": paths, "left": left})
        return {
            "severity": severity,
            "kind": kind,
            "words": KINDS[kind],
            "number": len(found),
            "pictured": shown[:num_pictured],
            "listed": shown[num_pictured:],
            "left": len(found) - len(shown),
        }

    def show_classes(self, readable: pl.DataFrame) -> list[dict[str, Any]]:
        """A few images of each class, from all over it."""
        sheet = []
        for label in sorted(readable["label"].unique())[:_CLASSES]:
            rows = readable.filter(label=label)
            chosen = rows[:: max(1, len(rows) // _PER_CLASS)].head(_PER_CLASS)
            sheet.append(
                {"name": label, "figures": [self._show(row, _SIDE_ON_SHEET) for row in chosen.iter_rows(named=True)]}
            )
        return sheet

    def _show(self, row: Mapping[str, Any], side: int) -> dict[str, Any]:
        """A photograph and what stands under it."""
        facts = [f"{name} {row[name]}" for name in ("split", "label") if row[name] is not None]
        has_group = row["group"] not in (None, tidy(row["path"]))
        image = None if self.album.is_full else _read(row["path"], self.window)
        return {
            "path": self._shorten(row["path"]),
            "facts": [*facts, *([f"group {row['group']}"] if has_group else [])],
            "picture": image and self.album.embed(image, side * side, side),
        }

    def _shorten(self, path: str) -> str:
        return path.removeprefix(self.top)


def _read(path: str, window: Window) -> Image.Image | None:
    try:
        return open_picture(read_content(path), window=window, least=(_SIDE, _SIDE)).image
    except UnreadableImage:
        return None
