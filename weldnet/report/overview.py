"""Pages of the report's kind for several tests: a comparison of two checkpoints, a cross-validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from weldnet.errors import count
from weldnet.evaluation.metrics import CLASS_METRICS, ERRORS, METRICS, show_figure
from weldnet.report.page import render
from weldnet.report.photographs import name_file
from weldnet.report.tables import tabulate_confusion
from weldnet.report.words import common_folder, percent

Figures = Mapping[str, Any]

MOST_SHOWN = 500
"""Photographs on the page of a comparison; comparison.json has all."""

_LABELS = {metric.key: metric.label for metric in (*METRICS, *ERRORS)}


class Table(NamedTuple):
    """A table under its title; the first cell of a row is its name."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


_PAIR = ("first", "second")


def render_comparison(comparison: Figures, names: Sequence[str], folder: Path) -> str:
    """The page of `comparison.json`.

    Args:
        names: how each of the two checkpoints is named, A and B.
        folder: of the page; holds the reports `a` and `b`, whose photographs it shows.
    """
    test, photographs = comparison["mcnemar"], comparison["photographs"]
    verdict = "differ significantly" if test["p_value"] < 0.05 else "do not differ significantly"
    leaks = [
        f"{letter}: {leak}" for letter, name in zip("AB", _PAIR, strict=True) for leak in comparison[name]["leaks"]
    ]
    differences = comparison["differences"]
    shown = [name for name in ("balanced_accuracy", "escapes", "false_calls") if name in differences]
    tiles = [
        {
            "name": f"{_LABELS[name]}, B minus A",
            "value": _sign(differences[name]["value"]),
            "bound": _range(differences[name]),
        }
        for name in shown
    ]
    return _render(
        "Comparison",
        f"A: {names[0]}; B: {names[1]}; the same photographs ({comparison['first']['split']})",
        f"A and B {verdict}: only A is right on {test['num_first_only']:,} photographs, only B on "
        f"{test['num_second_only']:,} (p = {test['p_value']:.3g}).",
        tiles,
        [
            Table(
                "Figures, B minus A",
                ("", "difference", "95 % interval"),
                [(_LABELS.get(name, name), _sign(row["value"]), _range(row)) for name, row in differences.items()],
            ),
        ],
        num_photographs=len(photographs),
        top=common_folder(row["path"] for row in photographs),
        photographs=[row | {"file": _find_photograph(row["row"], folder)} for row in photographs[:MOST_SHOWN]],
        leaks=leaks,
        notes=[
            *([] if photographs else ["A and B predict the same class for every photograph."]),
            f"{test['test']}. Intervals resample whole welds.",
            *(
                []
                if comparison["good_classes"]
                else ["Escapes are not compared: no class of sound welds is known to both."]
            ),
        ],
        links=[("Report of A", "a/report.html"), ("Report of B", "b/report.html")],
    )


def _find_photograph(row: int, folder: Path) -> str | None:
    """The file of a photograph beside one of the two reports, each of which shows its own mistakes first."""
    names = [f"{letter}/{name_file(row)}" for letter in "ab"]
    return next((name for name in names if (folder / name).is_file()), None)


def render_crossval(metrics: Figures, good_classes: Sequence[str]) -> str:
    """The page of `crossval.json`; good_classes are those of sound welds."""
    pooled, folds = metrics["pooled"], metrics["folds"]
    images, welds = (sum(fold[key] for fold in folds) for key in ("num_images", "num_groups"))
    mean, spread = (metrics[key]["balanced_accuracy"] for key in ("mean", "spread"))
    keys = [metric.key for metric in METRICS]
    rows = [
        [
            str(fold["fold"]),
            f"{fold['num_groups']:,}",
            f"{fold['num_images']:,}",
            *(show_figure(fold[key]) for key in keys),
        ]
        for fold in folds
    ]
    rows += [[name, "", "", *(show_figure(metrics[name][key]) for key in keys)] for name in ("mean", "spread")]
    measured = [metric for metric in CLASS_METRICS if metric.ratio]
    classes = [
        [name, f"{row['support']:,}", *(percent(row[each.key]) for each in measured)]
        for name, row in pooled["per_class"].items()
    ]
    matrix = {
        "classes": pooled["classes"],
        "confusion_matrix": pooled["confusion_matrix"],
        "good_classes": good_classes,
    }
    return _render(
        "Cross-validation",
        f"{count(images, 'photograph')} of {count(welds, 'weld')}, each held out once; {count(len(folds), 'fold')}",
        f"Held out, the balanced accuracy is {percent(mean)} in the mean of the folds, with a spread of "
        f"{percent(spread)}.",
        [
            {
                "name": _LABELS[key],
                "value": percent(metrics["mean"][key]),
                "bound": f"spread {percent(metrics['spread'][key])}",
            }
            for key in ("balanced_accuracy", "balanced_accuracy_by_group", "accuracy")
        ],
        [
            Table("Folds", ("fold", "welds", "images", *(_LABELS[key] for key in keys)), rows),
            Table("Classes, all folds together", ("class", "images", *(each.label for each in measured)), classes),
        ],
        leaks=metrics["leaks"],
        warnings=metrics["warnings"],
        notes=[f"Spread: {metrics['spread_is']}. predictions.csv has each photograph."],
        matrix=Markup(render("sections/confusion.html", report=matrix, confusion=tabulate_confusion(matrix), cells=())),
        links=[(f"Report of fold {fold['fold']}", f"fold_{fold['fold']}/report.html") for fold in folds],
    )


def _render(
    title: str, subtitle: str, sentence: str, tiles: Sequence[Figures], tables: Sequence[Table], **further: Any
) -> str:
    defaults = {"leaks": (), "warnings": (), "notes": (), "links": (), "matrix": None, "num_photographs": 0}
    figures = [{"target": "", "mark": "", **tile} for tile in tiles]
    values = {
        "title": title,
        "run": title,
        "subtitle": subtitle,
        "sentence": sentence,
        "figures": figures,
        "tables": tables,
    }
    return render("overview.html", **values, **(defaults | further))


def _sign(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _range(row: Figures) -> str:
    if row["low"] is None:
        return f"no interval: {str(row['reason']).partition(':')[0].replace('group', 'weld')}"
    return f"{row['low']:+.4f} to {row['high']:+.4f}"
