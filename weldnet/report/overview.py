"""Pages of the report's kind for several tests: a comparison of two checkpoints, a cross-validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from rich import table as rich

from weldnet.errors import count
from weldnet.evaluation.metrics import CLASS_METRICS, METRICS, measure_proportions
from weldnet.report.page import render
from weldnet.report.photographs import name_file
from weldnet.report.tables import LABELS, Table, shape, tabulate_confusion
from weldnet.report.words import Figures, capitalize, common_folder, percent, show_number

Section = tuple[str, str, Markup]
"""The key, title and content of a section."""

MOST_PHOTOGRAPHS = 500
"""Photographs on the page of a comparison; comparison.json has all."""

PAIR = ("first", "second")
_MAIN = ("balanced_accuracy", "escapes", "false_calls")


def render_comparison(comparison: Figures, names: Sequence[str], folder: Path) -> str:
    """The page of `comparison.json`.

    Args:
        names: how each of the two checkpoints is named, A and B.
        folder: of the page; holds the reports `a` and `b`, whose photographs it shows.
    """
    photographs, differences = comparison["photographs"], comparison["differences"]
    sections = [_show_table("figures", "Figures", tabulate_differences(differences))]
    if photographs:
        shown = [row | {"file": _find_photograph(row["row"], folder)} for row in photographs[:MOST_PHOTOGRAPHS]]
        title, top = (
            f"Photographs predicted differently: {len(photographs):,}",
            common_folder(row["path"] for row in shown),
        )
        body = render("sections/differences.html", photographs=shown, left=len(photographs) - len(shown), top=top)
        sections.append(("photographs", title, Markup(body)))
    return render(
        "page.html",
        title="Comparison of A and B",
        subtitle=f"Of two checkpoints on the same photographs ({comparison['first']['split']})",
        sentence=_judge(comparison),
        figures=[
            {
                "name": LABELS[name].partition(" (")[0],
                "value": f"A {first}, B {second}",
                "bound": f"B minus A: {difference}",
                "target": interval if row["low"] is None else f"95 %: {interval}",
            }
            for name, row in differences.items()
            if name in _MAIN
            for first, second, difference, interval in [_describe(name, row)]
        ],
        leaks=list_leaks(comparison),
        notes=[f"A: {names[0]}", f"B: {names[1]}", *list_notes(comparison)],
        sections=[*sections, _link({"Report of A": "a/report.html", "Report of B": "b/report.html"})],
    )


def _judge(comparison: Figures) -> str:
    test = comparison["mcnemar"]
    pair = (("A", test["num_first_only"]), ("B", test["num_second_only"]))
    (less, few), (more, many) = sorted(pair, key=lambda each: each[1])
    # McNemar's test counts photographs of one weld as if they were of several, and finds too much significant.
    low, high = (comparison["differences"]["accuracy"][end] for end in ("low", "high"))
    if low is None:
        verdict = "Too few welds to find either more accurate"
    else:
        verdict = f"{more if low > 0 or high < 0 else 'Neither'} is significantly more accurate"
    return f"{verdict}: {more} alone is right on {count(many, 'photograph')}, {less} alone on {few or 'none'}."


def list_leaks(comparison: Figures) -> list[str]:
    """The leaks of either, each with its letter."""
    return [f"{letter}: {leak}" for letter, name in zip("AB", PAIR, strict=True) for leak in comparison[name]["leaks"]]


def list_notes(comparison: Figures) -> list[str]:
    """What else to know of a comparison, a sentence each."""
    test, number = comparison["mcnemar"], len(comparison["photographs"])
    notes = [
        "Intervals resample whole welds; a difference is significant where the interval of accuracy leaves out 0.",
        f"p = {test['p_value']:.2g} ({test['test']}).",
    ]
    if not number:
        notes.insert(0, "A and B predict the same class for every photograph.")
    if not comparison["good_classes"]:
        notes.append("Escapes are not compared: the two name different good classes, or none.")
    return notes


def tabulate_differences(differences: Figures) -> Table:
    """A, B and B minus A, for the page and the terminal."""
    rows = [[LABELS.get(name, name), *_describe(name, row)] for name, row in differences.items()]
    return Table(["", "A", "B", "B minus A", "95 % interval"], rows)


def draw_differences(comparison: Figures) -> rich.Table:
    """`comparison.json` as a table for the terminal: A is the first, B the second."""
    leaks = [f"LEAK ({leak[0]}){leak[1:]}" for leak in list_leaks(comparison)]
    sentences = [
        f"{len(comparison['photographs'])} photographs are predicted differently.",
        _judge(comparison),
    ]
    caption = " ".join([*sentences, *list_notes(comparison), *leaks])
    title = f"Comparison of A and B{' (LEAK)' if leaks else ''}"
    return tabulate_differences(comparison["differences"]).draw(title=title, caption=caption)


def _describe(name: str, row: Figures) -> tuple[str, str, str, str]:
    """The figures of A and B, their difference, in points where it is one of shares, and its interval."""
    first, second = (shape(name)(row[each]) for each in PAIR)
    is_number = shape(name) is show_number
    value, low, high = (
        show_number(each, "+z.4f") if is_number or each is None else f"{show_number(100 * each, '+z.1f')} points"
        for each in (row["value"], row["low"], row["high"])
    )
    if row["low"] is None:
        return first, second, value, f"no interval: {str(row['reason']).partition(':')[0].replace('group', 'weld')}"
    return first, second, value, f"{low.removesuffix(' points')} to {high}"


def _find_photograph(row: int, folder: Path) -> str | None:
    """The file of a photograph beside one of the two reports, each of which shows its own mistakes first."""
    names = [f"{letter}/{name_file(row)}" for letter in "ab"]
    return next((name for name in names if (folder / name).is_file()), None)


def render_crossval(metrics: Figures, good_classes: Sequence[str], run: str) -> str:
    """The page of `crossval.json` of a run; good_classes are those of sound welds."""
    pooled, folds = metrics["pooled"], metrics["folds"]
    images, welds = (sum(fold[key] for fold in folds) for key in ("num_images", "num_groups"))
    mean, spread = metrics["mean"], metrics["spread"]
    matrix = {key: pooled[key] for key in ("classes", "confusion_matrix")} | {"good_classes": good_classes}
    confusion = render("sections/confusion.html", report=matrix, confusion=tabulate_confusion(matrix), cells=())
    return render(
        "page.html",
        run=run,
        title=f"Cross-validation: {run}",
        subtitle=f"{count(images, 'photograph')} of {count(welds, 'weld')}, each held out once; "
        f"{count(len(folds), 'fold')}",
        sentence=f"On welds held out, the balanced accuracy is {percent(mean['balanced_accuracy'])} in the mean of the "
        f"folds, with a spread of {_show_spread('balanced_accuracy', spread)}.",
        figures=[
            {"name": LABELS[key], "value": percent(mean[key]), "bound": f"spread {_show_spread(key, spread)}"}
            for key in ("balanced_accuracy", "balanced_accuracy_by_group")
        ]
        + _count_escapes(matrix),
        leaks=metrics["leaks"],
        warnings=[capitalize(warning) for warning in metrics["warnings"]],
        notes=[
            f"Spread: {metrics['spread_is'].partition(',')[0]}. predictions.csv has each photograph.",
            f"Guessing one class gives a balanced accuracy of {percent(1 / len(pooled['classes']))}.",
        ],
        sections=[
            ("confusion", "Confusion matrix, all folds together", Markup(confusion)),
            _show_table("classes", "Classes, all folds together", tabulate_pooled(pooled)),
            _show_table("folds", "Folds", tabulate_folds(metrics)),
            _link({f"Report of fold {fold['fold']}": f"fold_{fold['fold']}/report.html" for fold in folds}),
        ],
    )


def _show_spread(key: str, spread: Figures) -> str:
    """A spread over folds: of shares in points, which are no per cent of the mean."""
    value = spread[key]
    return show_number(value) if value is None or shape(key) is show_number else f"{100 * value:.1f} points"


def _count_escapes(matrix: Figures) -> list[Figures]:
    """The card of the defects predicted as sound; none where no class of sound welds is known."""
    confusion = np.array(matrix["confusion_matrix"])
    row = measure_proportions(confusion, matrix["classes"], matrix["good_classes"]).get("escapes")
    shown = row and {
        "name": LABELS["escapes"],
        "value": percent(row["value"]),
        "bound": f"{row['k']:,} of {row['n']:,}",
    }
    return [shown] if shown else []


def tabulate_pooled(pooled: Figures) -> Table:
    """The figures of each class over all folds."""
    measured = [metric for metric in CLASS_METRICS if metric.ratio]
    rows = [
        [name, f"{row['support']:,}", *(percent(row[each.key]) for each in measured)]
        for name, row in pooled["per_class"].items()
    ]
    return Table(["class", "images", *(each.label for each in measured)], rows)


def tabulate_folds(metrics: Figures) -> Table:
    """The figures of each fold, then their mean and spread."""
    folds = metrics["folds"]
    known = [([str(fold["fold"]), f"{fold['num_groups']:,}", f"{fold['num_images']:,}"], fold) for fold in folds]
    known.append((["mean", "", ""], metrics["mean"]))
    keys = [metric.key for metric in METRICS]
    rows = [[*facts, *(shape(key)(figures[key]) for key in keys)] for facts, figures in known]
    rows.append(["spread", "", "", *(_show_spread(key, metrics["spread"]) for key in keys)])
    return Table(["fold", "welds", "images", *(LABELS[key] for key in keys)], rows)


def _show_table(key: str, title: str, table: Table) -> Section:
    return key, title, Markup(render("sections/table.html", it=table))


def _link(addresses: Mapping[str, str]) -> Section:
    return "reports", "Reports", Markup(render("sections/links.html", addresses=addresses))
