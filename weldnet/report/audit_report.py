"""An audit as `audit.json`, and in the terminal; the page is drawn in `page.py`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from weldnet.audit.audit import Audit
from weldnet.audit.classes import count_samples, tabulate_recall
from weldnet.audit.findings import Finding
from weldnet.console import print_table
from weldnet.data.sources.manifest import SPLITS
from weldnet.errors import shorten
from weldnet.evaluation.intervals import needed_images
from weldnet.files import write_json, write_text
from weldnet.report.audit_page import render_page, tabulate_splits
from weldnet.report.kinds import KINDS, group_findings
from weldnet.report.words import common_folder, count
from weldnet.spelling import make_visible

_RECALLS = (0.90, 0.95, 0.99)
_LINES = 12
_PATHS = 3
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def save_audit(audit: Audit, folder: Path) -> None:
    """Writes `audit.json` and `audit.html` into an existing folder, each all or nothing."""
    summary = summarise(audit)
    write_json(folder / "audit.json", summary)
    write_text(folder / "audit.html", render_page(audit, summary))


def summarise(audit: Audit) -> dict[str, Any]:
    """The keys of `audit.json`: plain types, paths in full, nothing that has a row for each image."""
    images = audit.images
    readable = images.filter(pl.col("reason").is_null())
    score = audit.size_score
    return {
        "num_images": len(images),
        "num_unreadable": len(images) - len(readable),
        "skipped": audit.skipped.to_list(),
        "classes": sorted(images["label"].unique()),
        "splits": {split: len(images.filter(split=split)) for split in SPLITS if split in images["split"]},
        "findings": [
            {"kind": found.kind, "severity": found.severity, "paths": list(found.paths), "detail": found.detail}
            for found in audit.findings
        ],
        "formats": _tally(readable["format"]),
        "modes": _tally(readable["mode"]),
        "bit_depths": _tally(readable["bits"]),
        "sizes": {
            side: {"min": readable[side].min(), "median": readable[side].median(), "max": readable[side].max()}
            for side in ("width", "height")
        },
        "size_score": score and {"balanced_accuracy": score.balanced_accuracy, "chance": score.chance},
        "counts": count_samples(images).to_dicts(),
        "recall_if_none_missed": tabulate_recall(readable),
        "defects_needed": {f"{recall:.2f}": needed_images(1 - recall) for recall in _RECALLS},
    }


def _tally(values: pl.Series) -> dict[str, int]:
    return {str(value): number for value, number in values.value_counts(sort=True, name="number").iter_rows()}


def print_audit(audit: Audit, console: Console) -> None:
    """Images by class and split, then the findings by kind, worst first."""
    print_table(_tabulate(audit.images), console)
    top = common_folder(audit.images["path"])
    for severity, kind, found in group_findings(audit.findings):
        head = Text.assemble((f"{severity:<8}", _STYLES[severity]), (kind, "bold"), f" {len(found):,}  ")
        console.print(head.append(KINDS[kind].title, "dim"), soft_wrap=True)
        for line in _describe(found, top):
            console.print(Text(f"    {make_visible(line)}"), soft_wrap=True)
    counts = [count(len(audit.of(severity)), severity) for severity in ("error", "warning", "note")]
    console.print(Text(f"{', '.join(counts)} on {count(len(audit.images), 'image')}", "bold"))


def _tabulate(samples: pl.DataFrame) -> Table:
    counts = tabulate_splits(samples)
    table = Table(title=count(len(samples), "image"), title_justify="left")
    table.add_column("class")
    for name in counts["columns"]:
        table.add_column(name, justify="right")
    for label, numbers in counts["rows"]:
        table.add_row(Text(make_visible(label)), *(f"{number:,}" for number in numbers))
    return table


def _describe(found: Sequence[Finding], top: str) -> Iterator[str]:
    """A line a finding, the first paths beside it; past the limit a count of the rest."""
    for finding in found[:_LINES]:
        paths = shorten([path.removeprefix(top) for path in finding.paths], _PATHS)
        yield f"{finding.detail}{': ' if paths else ''}{paths}"
    if len(found) > _LINES:
        yield f"... and {len(found) - _LINES:,} more"
