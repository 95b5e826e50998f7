"""The page of a tested set: to add a section, add a row to `SECTIONS` and a template of its key to `sections/`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from weldnet.files import write_text
from weldnet.report.charts import draw_charts, embed_chart, save_chart
from weldnet.report.gallery import Gallery, Pictures
from weldnet.report.kinds import KINDS
from weldnet.report.page import render
from weldnet.report.tables import (
    tabulate_classes,
    tabulate_confusion,
    tabulate_groups,
    tabulate_headlines,
    tabulate_verdicts,
    tabulate_welds,
)
from weldnet.report.words import CAVEATS, common_folder, name_columns, summarise

Values = dict[str, Any]


@dataclass(frozen=True)
class Tested:
    """What a section is made from.

    Attributes:
        report: the keys of `report.json`.
        gallery: the tested photographs, each with its prediction.
    """

    report: Mapping[str, Any]
    gallery: Gallery


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: the name of its template, and where a link finds it.
        title: its heading.
        show: what its template needs beside `report`, `charts` and `shorten`, a path without the common folder.
    """

    key: str
    title: str
    show: Callable[[Tested], Values] = lambda tested: {}


def save_report(report: Values, predictions: pl.DataFrame, pictures: Pictures, folder: Path) -> None:
    """Writes `report.json`, `report.html` and the figures into an existing folder, each all or nothing.

    Args:
        report: the keys of `report.json`.
        predictions: `EvaluationReport.predictions()`.
        pictures: of the same images.
    """
    charts = draw_charts(report)
    for name, figure in charts.items():
        save_chart(figure, folder / f"{name}.png")
    embedded = {name: embed_chart(figure, name) for name, figure in charts.items()}
    write_text(folder / "report.html", render_page(Tested(report, Gallery(predictions, pictures)), embedded))
    write_text(folder / "report.json", json.dumps(report, indent=2, allow_nan=False) + "\n")


def render_page(tested: Tested, charts: Mapping[str, Markup]) -> str:
    """The page as HTML.

    Args:
        charts: `charts.embed_chart` by name.
    """
    report, top = tested.report, common_folder(tested.gallery.predictions["path"])
    common = {"report": report, "charts": charts, "shorten": lambda path: path.removeprefix(top)}
    # The mistakes before the other photographs, lest the album be full before them.
    in_order = sorted(SECTIONS, key=lambda section: section.key != "mistakes")
    bodies = {each.key: Markup(render(f"sections/{each.key}.html", **common, **each.show(tested))) for each in in_order}
    return render(
        "report.html",
        report=report,
        summary=report.get("summary") or summarise(report),
        images=name_columns(report, False)[0][0],
        top=top,
        sections=[(each, bodies[each.key]) for each in SECTIONS],
    )


def show_figures(tested: Tested) -> Values:
    """The figures of these images, beside those of the validation images where these are others."""
    report = tested.report
    validation = report.get("validation") if report["split"] != "val" else None
    return {
        "columns": name_columns(report, validation is not None),
        "headlines": tabulate_headlines([report, *([validation] if validation else [])]),
        "caveat": CAVEATS.get(str(report.get("validation_groups"))),
        "groups": tabulate_groups(report),
    }


def show_confusion(tested: Tested) -> Values:
    """The confusion matrix, and the photographs behind its numbers."""
    cells = tested.gallery.fill_cells(tested.report["classes"])
    return {"confusion": tabulate_confusion(tested.report), "cells": sorted(cells.items())}


def show_mistakes(tested: Tested) -> Values:
    """Escapes and worst mistakes."""
    rows = {"escapes": tested.report.get("escaped", []), "worst": tested.report.get("worst_mistakes", [])}
    return {name: tested.gallery.show_mistakes(chosen) for name, chosen in rows.items()}


SECTIONS = (
    Section("figures", "Figures", show_figures),
    Section("confusion", "Confusion matrix", show_confusion),
    Section("classes", "Classes", lambda tested: {"classes": tabulate_classes(tested.report)}),
    Section("verdicts", "Accept, reject or refer", lambda tested: {"rows": tabulate_verdicts(tested.report)}),
    Section("reliability", "Reliability"),
    Section(
        "welds",
        "Welds",
        lambda tested: {"welds": tabulate_welds(tested.gallery.predictions, tested.report["good_classes"])},
    ),
    Section("mistakes", "Mistakes", show_mistakes),
    Section("audit", "Audit of these data", lambda tested: {"kinds": KINDS}),
    Section("provenance", "Provenance"),
)
