"""A report as one page: no script, nothing loaded from elsewhere, as good on paper as on a screen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from weldnet.files import write_text
from weldnet.report.album import Album, Pictures
from weldnet.report.audit_page import load_page
from weldnet.report.charts import draw_charts, embed_chart, save_chart
from weldnet.report.kinds import KINDS, common_folder
from weldnet.report.tables import (
    tabulate_classes,
    tabulate_confusion,
    tabulate_groups,
    tabulate_headlines,
    tabulate_verdicts,
    tabulate_welds,
)
from weldnet.report.words import CAVEATS, name_columns, summarise

__all__ = ["Pictures", "render_page", "save_report"]

_ESCAPES, _WORST = 48, 24


def save_report(report: dict[str, Any], predictions: pl.DataFrame, pictures: Pictures, folder: Path) -> None:
    """Writes `report.json`, `report.html` and the figures into an existing folder, each all or nothing.

    Args:
        report: the keys of `report.json`.
        predictions: `EvaluationReport.predictions()`.
        pictures: of the same images.
    """
    charts = draw_charts(report)
    for name, figure in charts.items():
        save_chart(figure, folder / f"{name}.png")
    drawn = {name: embed_chart(figure, name) for name, figure in charts.items()}
    write_text(folder / "report.html", render_page(report, predictions, pictures, drawn))
    write_text(folder / "report.json", json.dumps(report, indent=2, allow_nan=False) + "\n")


def render_page(
    report: Mapping[str, Any], predictions: pl.DataFrame, pictures: Pictures, charts: Mapping[str, Markup]
) -> str:
    """The page as HTML.

    Args:
        charts: SVG elements of `charts.embed_chart` by name.
    """
    album = Album(predictions, pictures)
    validation = report.get("validation") if report["split"] != "val" else None
    top = common_folder(predictions["path"])
    return load_page("report/report.html").render(
        report=report,
        summary=report.get("summary") or summarise(report),
        columns=name_columns(report, validation is not None),
        headlines=tabulate_headlines([report, *([validation] if validation else [])]),
        caveat=CAVEATS.get(str(report.get("validation_groups"))),
        # The gallery before the cells: it is what the room is for, should it not suffice.
        escapes=album.show(report.get("escaped", [])[:_ESCAPES]),
        worst=album.show(report.get("worst_mistakes", [])[:_WORST]),
        confusion=tabulate_confusion(report),
        cells=sorted(album.fill_cells(report["classes"]).items()),
        classes=tabulate_classes(report),
        verdicts=tabulate_verdicts(report) if report["verdicts"] else None,
        charts=charts,
        welds=tabulate_welds(predictions, report["good_classes"]),
        groups=tabulate_groups(report),
        kinds=KINDS,
        shorten=lambda path: path.removeprefix(top),
        top=top,
    )
