"""The page of a tested set: to add a section, add a row to `SECTIONS` and a template of its key to `sections/`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from weldnet.evaluation.decision import ADVICE
from weldnet.evaluation.verdicts import OperatingPoint
from weldnet.files import write_json, write_text
from weldnet.inference.predictor import name_run
from weldnet.report.charts import draw_charts, embed_chart
from weldnet.report.headline import describe_figures, write_headline
from weldnet.report.kinds import KINDS
from weldnet.report.page import render
from weldnet.report.photographs import ESCAPE, Gallery
from weldnet.report.tables import (
    tabulate_classes,
    tabulate_confusion,
    tabulate_data,
    tabulate_each_weld,
    tabulate_headlines,
    tabulate_verdicts,
    tabulate_welds,
)
from weldnet.report.terms import TERMS
from weldnet.report.words import capitalize, common_folder, compare_with_validation, name_columns, percent

Values = dict[str, Any]


class Section(NamedTuple):
    """A section of the page, left out where it is empty; its key names its template and is the target of links.

    `show` takes the keys of `report.json` and the tested photographs, and returns what the template names beside
    `report`, `charts` and `shorten`, which leaves the common folder out of a path.
    """

    key: str
    title: str
    show: Callable[[Values, Gallery], Values] = lambda report, gallery: {}


def save_report(report: Values, gallery: Gallery, folder: Path) -> None:
    """Writes `report.json` and `report.html` into an existing folder, each all or nothing.

    Adds `headline` to the report.
    """
    headline = report["headline"] = write_headline(report)
    embedded = {name: embed_chart(figure, name) for name, figure in draw_charts(report).items()}
    top = common_folder(gallery.predictions["path"])
    common = {"report": report, "charts": embedded, "shorten": lambda path: path.removeprefix(top)}
    bodies = {
        each.key: render(f"sections/{each.key}.html", **common, **each.show(report, gallery)) for each in SECTIONS
    }
    origin = report.get("provenance") or {}
    run = name_run(Path(origin.get("checkpoint", "")))
    date = f"{origin['date'][:10]}: " if "date" in origin else ""
    images = f"{report['num_images']:,} {name_columns(report, False)[0][0]}"
    page = render(
        "report.html",
        run=run,
        title=f"Test report: {run}" if run else "Test report",
        subtitle=f"{date}{images} of {len(report['classes'])} classes below {top}",
        leaks=report.get("leaks") or [],
        **{key: headline[key] for key in ("status", "sentence", "reasons")},
        figures=describe_figures(report),
        verdicts=(report["verdicts"] or {}).get("photographs"),
        percent=percent,
        sections=[(each.key, each.title, Markup(bodies[each.key])) for each in SECTIONS if bodies[each.key].strip()],
    )
    write_text(folder / "report.html", page)
    write_json(folder / "report.json", report)


def show_figures(report: Values, gallery: Gallery) -> Values:
    """The figures of these images, beside those of the validation images where they differ."""
    validation = report.get("validation") if report["split"] != "val" else None
    groups, needed = tabulate_each_weld(report) or (None, 0)
    return {
        "gap": compare_with_validation(report),
        "headlines": tabulate_headlines(report, validation),
        "groups": groups,
        "needed": needed,
    }


def show_confusion(report: Values, gallery: Gallery) -> Values:
    """The confusion matrix, and of which of its numbers photographs are shown."""
    return {"confusion": tabulate_confusion(report), "cells": gallery.list_cells(report["classes"])}


def show_classes(report: Values, gallery: Gallery) -> Values:
    """The figures of each class, and photographs that show what it looks like."""
    return {"classes": tabulate_classes(report), "samples": gallery.list_samples()}


def show_verdicts(report: Values, gallery: Gallery) -> Values:
    """Counts and bounds of the verdicts, and what the headline does not say of them."""
    statements = [capitalize(text) for text in report["statements"] if ADVICE not in text]
    point = report["operating_point"]
    rule = OperatingPoint.from_dict(point).describe() if point else []
    return {"rule": rule, "verdicts": tabulate_verdicts(report), "statements": statements}


def show_photographs(report: Values, gallery: Gallery) -> Values:
    """A card for each photograph, and what one can filter them by."""
    cards = gallery.list_cards(report["classes"])
    return {
        "cards": cards,
        "cells": gallery.list_cells(report["classes"]),
        "welds": gallery.list_welds(),
        "num_escapes": sum(card["kind"] == ESCAPE for card in cards),
    }


SECTIONS = (
    Section("figures", "Figures", show_figures),
    Section("confusion", "Confusion matrix", show_confusion),
    Section("classes", "Classes", show_classes),
    Section("verdicts", "Accept, reject or refer", show_verdicts),
    Section("reliability", "Reliability"),
    Section("curves", "Learning curves"),
    Section(
        "welds",
        "Welds",
        lambda report, gallery: {"welds": tabulate_welds(gallery.predictions, report)},
    ),
    Section("photographs", "Photographs", show_photographs),
    Section(
        "data", "Data and audit", lambda report, _: {"kinds": KINDS, "data": tabulate_data(report.get("data", []))}
    ),
    Section("terms", "Terms", lambda *_: {"terms": TERMS}),
    Section(
        "provenance",
        "Provenance",
        lambda report, _: {"selection": capitalize(report["selection"]) if report.get("selection") else ""},
    ),
)
