"""An audit as `audit.json`, in the terminal, and as a page that a person can read, print and hand on."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.text import Text

from weldnet.audit.audit import Audit
from weldnet.audit.classes import count_samples, tabulate_recall
from weldnet.audit.findings import SEVERITIES
from weldnet.audit.labels import REVIEW, list_for_review
from weldnet.console import print_table
from weldnet.data.sources.manifest import SPLITS
from weldnet.errors import count, shorten
from weldnet.files import write_csv, write_json, write_text
from weldnet.report.audit_page import render_page
from weldnet.report.kinds import KINDS, group_findings
from weldnet.report.tables import count_splits, tabulate_data
from weldnet.report.words import common_folder
from weldnet.spelling import make_visible

_LINES = 12
_PATHS = 3
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def save_audit(audit: Audit, folder: Path) -> None:
    """Writes `audit.json`, `audit.html` and, where labels are doubted, `review.csv` into an existing folder.

    Each is written all or nothing.
    """
    if audit.doubts is not None and len(audit.doubts):
        write_csv(folder / REVIEW, list_for_review(audit.doubts), for_excel=True)
    summary = summarise(audit)
    write_json(folder / "audit.json", summary)
    write_text(folder / "audit.html", render_page(audit, summary))


def summarise(audit: Audit) -> dict[str, Any]:
    """The keys of `audit.json`: plain types, paths in full, nothing that has a row for each image."""
    images = audit.images
    readable = images.filter(pl.col("reason").is_null())
    return {
        "num_images": len(images),
        "num_unreadable": len(images) - len(readable),
        "skipped": audit.skipped.to_list(),
        "classes": sorted(images["label"].unique()),
        "splits": {split: len(images.filter(split=split)) for split in SPLITS if split in images["split"]},
        "refusals": {name: refusal and str(refusal) for name, refusal in audit.refusals.items()},
        "findings": [asdict(found) for found in audit.findings],
        "formats": _tally(readable["format"]),
        "bit_depths": _tally(readable["bits"]),
        "sizes": {
            side: {"min": readable[side].min(), "median": readable[side].median(), "max": readable[side].max()}
            for side in ("width", "height")
        },
        "shapes": audit.shapes
        and {name: getattr(audit.shapes, name) for name in ("enlarged", "squeezed", "across", "settings")},
        "counts": count_samples(images).to_dicts(),
        "recall_if_none_missed": tabulate_recall(readable),
    }


def _tally(values: pl.Series) -> dict[str, int]:
    return {str(value): number for value, number in values.value_counts(sort=True, name="number").iter_rows()}


def print_audit(audit: Audit, console: Console) -> None:
    """Images by class and split, then the findings by kind, worst first; past a limit a count of the rest."""
    images = count(len(audit.images), "image")
    print_table(tabulate_data(count_splits(audit.images)).draw(title=images), console)
    top = common_folder(audit.images["path"])
    for severity, kind, found in group_findings(audit.findings):
        head = Text.assemble((f"{severity:<8}", _STYLES[severity]), (kind, "bold"), f" {len(found):,}  ")
        console.print(head.append(KINDS[kind].title, "dim"), soft_wrap=True)
        lines = []
        for finding in found[:_LINES]:
            paths = shorten([path.removeprefix(top) for path in finding.paths], _PATHS)
            lines.append(f"{finding.detail}{': ' if paths else ''}{paths}")
        if len(found) > _LINES:
            lines.append(f"... and {len(found) - _LINES:,} more")
        for line in lines:
            console.print(Text(f"    {make_visible(line)}"), soft_wrap=True)
    if audit.shapes and audit.shapes.settings:
        console.print(Text(audit.shapes.describe()), soft_wrap=True)
    total = ", ".join(count(len(audit.of(severity)), severity) for severity in SEVERITIES)
    console.print(Text(f"{total} on {images}", "bold"))
