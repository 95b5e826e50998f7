"""The tables of a report as plain rows for the page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from weldnet.data.sources.manifest import SPLITS
from weldnet.evaluation.bootstrap import FEWEST_GROUPS
from weldnet.evaluation.metrics import CLASS_METRICS, ERRORS, METRICS, RANKINGS, show_figure
from weldnet.evaluation.verdicts import VERDICTS
from weldnet.report.words import describe_range, percent

Figures = Mapping[str, Any]

MOST_WELDS = 200

_HEADLINES = {metric.key: metric.label for metric in (*METRICS, *RANKINGS, *ERRORS)}
_NUMBERS = [metric.key for metric in METRICS if metric.kind == "number"]

_VERDICTS = {
    "accept": "accepted",
    "reject": "rejected",
    "refer": "referred",
    "escapes": "escapes: defective, yet accepted",
    "false_calls": "false calls: sound, yet not accepted",
    "false_rejects": "false rejects: sound, yet rejected",
}


class Cell(NamedTuple):
    """A figure as text, `-` for none; the counts it is a share of; its exact interval by image, and the one by weld."""

    value: str
    counts: str | None = None
    exact: str | None = None
    welds: str | None = None


def tabulate_headlines(reports: Sequence[Figures]) -> list[tuple[str, list[Cell]]]:
    """The figures of each report side by side: test first, then validation."""
    rows = [
        (title, [measure(report, name) for report in reports])
        for name, title in _HEADLINES.items()
        if any(name in report["by_group"] for report in reports)
    ]
    errors = [report["calibration"]["after"]["expected_calibration_error"] for report in reports]
    rows.append(("Expected calibration error", [Cell(f"{error:.3f}") for error in errors]))
    if any(report["verdicts"] for report in reports):
        for name in VERDICTS:
            shares = [(report["verdicts"] or {}).get("photographs", {}).get(name) for report in reports]
            rows.append((f"Photographs {_VERDICTS[name]}", [show_proportion(share) for share in shares]))
    return rows


def measure(report: Figures, name: str) -> Cell:
    """A figure of all images with both intervals."""
    exact, group = report["proportions"].get(name), report["by_group"].get(name)
    if group and name in _NUMBERS:
        bounds = None if group["low"] is None else f"{show_figure(group['low'])} to {show_figure(group['high'])}"
        return Cell(show_figure(group["value"]), welds=bounds)
    cell = show_proportion(exact) if exact else Cell(percent(group["value"] if group else None))
    counts = None if "/" in name else cell.counts
    return cell._replace(counts=counts, welds=_show_bounds(group) if group else None)


def show_proportion(row: Figures | None) -> Cell:
    """k of n with its exact interval."""
    if row is None or not row["n"]:
        return Cell("-")
    return Cell(percent(row["value"]), f"{row['k']:,} of {row['n']:,}", _show_bounds(row))


def _show_bounds(row: Figures) -> str | None:
    if row["high"] is None:
        return None
    if "high_is" in row:
        return f"at most {percent(row['high'])}"
    return (describe_range(row["low"], row["high"]) or "").removesuffix(" %") or None


def tabulate_classes(report: Figures) -> list[dict[str, Any]]:
    """For each class its name in ISO 6520-1, support, and `CLASS_METRICS` with their intervals."""
    vocabulary = report.get("vocabulary") or {}
    return [
        {
            "name": name,
            "iso": vocabulary.get(name, "").removeprefix("ISO 6520-1 no. ").replace(", ", " ", 1),
            "good": name in report["good_classes"],
            "support": report["per_class"][name]["support"],
            "cells": [measure(report, f"{metric.key}/{name}") for metric in CLASS_METRICS],
        }
        for name in report["classes"]
    ]


def tabulate_data(report: Figures) -> dict[str, Any]:
    """`splits`, and `rows`: each class with its images in each split, and the welds they show where these are known."""
    counts = {(row["label"], row["split"]): row for row in report.get("data", [])}
    splits = [name for name in SPLITS if any(split == name for _, split in counts)]
    rows = [(label, [counts.get((label, split)) for split in splits]) for label in report["classes"]]
    return {"splits": splits, "rows": rows if counts else []}


def tabulate_verdicts(report: Figures) -> list[tuple[str, list[Cell]]]:
    """Counts and bounds of verdicts and errors, by photograph and, where welds are known, by weld."""
    units = [rows for rows in (report["verdicts"] or {}).values() if rows]
    # Without a good class, errors are undefined.
    names = _VERDICTS if report["good_classes"] else VERDICTS
    return [(_VERDICTS[name], [show_proportion(rows[name]) for rows in units]) for name in names]


class MatrixCell(NamedTuple):
    """A number of the confusion matrix, its share of the actual class, and what it counts.

    Attributes:
        kind: `right`, `escape` (a defect predicted as sound), `false_call` (sound predicted as a defect), or `mix_up`.
    """

    number: int
    share: float
    kind: str


def tabulate_confusion(report: Figures) -> list[tuple[str, list[MatrixCell]]]:
    """Rows of the confusion matrix: the actual class, and a cell for each predicted one."""
    sound = [name in report["good_classes"] for name in report["classes"]]
    kinds = {(False, True): "escape", (True, False): "false_call"} if any(sound) else {}
    return [
        (
            name,
            [
                MatrixCell(
                    number, number / (sum(row) or 1), "right" if i == j else kinds.get((sound[i], sound[j]), "mix_up")
                )
                for j, number in enumerate(row)
            ],
        )
        for i, (name, row) in enumerate(zip(report["classes"], report["confusion_matrix"], strict=True))
    ]


def tabulate_welds(predictions: pl.DataFrame, good_classes: Sequence[str]) -> dict[str, Any] | None:
    """Images, accuracy, escapes and verdicts of each weld, the least accurate first.

    Returns:
        `rows`, at most `MOST_WELDS`, and `total`; None where no weld is known, or each has one image only.
    """
    known = predictions.drop_nulls("group")
    total = known["group"].n_unique()
    if known.is_empty() or total == len(known):
        return None
    defect = ~pl.col("label").is_in(list(good_classes))
    table = (
        known.group_by("group")
        .agg(
            images=pl.len(),
            accuracy=(pl.col("label") == pl.col("predicted")).mean(),
            defects=defect.sum(),
            escapes=(defect & pl.col("predicted").is_in(list(good_classes))).sum(),
            passed=(defect & (pl.col("verdict") == "accept")).sum(),
            **{name: (pl.col("verdict") == name).sum() for name in VERDICTS},
        )
        .sort("accuracy", pl.col("escapes"), pl.col("images"), "group", descending=[False, True, True, False])
    )
    return {"rows": table.head(MOST_WELDS).to_dicts(), "total": total}


def tabulate_groups(report: Figures) -> dict[str, Any] | None:
    """Where welds are too few for an interval, the `groups` and, as `rows`, their figures; otherwise None."""
    found = report["by_group"]["accuracy"]
    if found["per_group"] is None:
        return None
    groups, rows = list(found["per_group"]), []
    for name in (*_HEADLINES, *(f"recall/{name}" for name in report["classes"])):
        if name in report["by_group"]:
            values = report["by_group"][name]["per_group"]
            show = show_figure if name in _NUMBERS else percent
            title = _HEADLINES.get(name, name.replace("recall/", "Recall of ", 1))
            rows.append((title, [show(values[group]) for group in groups]))
    return {"groups": groups, "rows": rows, "needed": FEWEST_GROUPS}
