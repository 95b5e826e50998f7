"""An audit as one page that a person can read, print and hand on: no script, nothing loaded from elsewhere."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import polars as pl
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from weldnet.audit.audit import Audit
from weldnet.audit.findings import SEVERITIES, Finding
from weldnet.data.sources.manifest import SPLITS
from weldnet.report.audit_charts import Thumbnails, plot_sizes, tabulate_groups
from weldnet.report.kinds import KINDS, common_folder, count, group_findings, make_visible
from weldnet.spelling import tidy

_PICTURED = 24
_LISTED = 200
_PER_FINDING = 6
_PER_CLASS = 8
_CLASSES = 24
_ROWS = 200


def render_page(audit: Audit, summary: Mapping[str, Any]) -> str:
    """The page as HTML.

    Args:
        audit: what was found.
        summary: `weldnet.report.audit_report.summarise(audit)`.
    """
    template = load_page("report/audit.html")
    readable = audit.images.filter(pl.col("reason").is_null())
    album = _Album(audit)
    sections = [album.describe(*group) for group in group_findings(audit.findings)]
    return template.render(
        verdict=judge(audit),
        counts=[(severity, len(audit.of(severity))) for severity in SEVERITIES],
        summary=summary,
        top=album.top,
        skipped=audit.skipped.describe(album.top) if audit.skipped else "",
        sections=sections,
        splits=tabulate_splits(audit.images),
        groups=tabulate_groups(readable) if len(readable) else None,
        plot=plot_sizes(readable) if len(readable) else None,
        rows=summary["counts"][:_ROWS],
        sheet=album.draw_classes(readable),
    )


def load_page(name: str) -> Template:
    """A template below the package, with `style`, the look of all pages, and the filter `visible`."""

    def read(name: str) -> str:
        return files("weldnet").joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(read)
    )
    environment.filters["visible"] = lambda text: make_visible(str(text))
    environment.globals["style"] = Markup(read("report/style.css"))
    return environment.get_template(name)


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
    has_splits = samples["split"].null_count() < len(samples)
    columns = list(SPLITS) if has_splits else ["images"]
    counts = {(label, split): number for label, split, number in samples.group_by("label", "split").len().iter_rows()}
    keys = columns if has_splits else [None]
    rows = [(label, [counts.get((label, key), 0) for key in keys]) for label in sorted(samples["label"].unique())]
    return {"columns": columns, "rows": rows}


class _Album:
    """Findings and classes with their pictures, drawn in the order of the page until the room is used up."""

    def __init__(self, audit: Audit) -> None:
        self.top = common_folder(audit.images["path"])
        self.thumbnails = Thumbnails(audit.window)
        wanted = {path for found in audit.findings for path in found.paths[:_PER_FINDING]}
        rows = audit.images.filter(pl.col("path").is_in(list(wanted))).select("path", "label", "group", "split")
        self.known = {row["path"]: row for row in rows.iter_rows(named=True)}

    def describe(self, severity: str, kind: str, found: Sequence[Finding]) -> dict[str, Any]:
        """One section of the page: a kind of one severity."""
        num_pictured = _PICTURED if KINDS[kind].pictured else 0
        listed = found[num_pictured : num_pictured + _LISTED]
        return {
            "severity": severity,
            "kind": kind,
            "words": KINDS[kind],
            "number": len(found),
            "pictured": [
                {
                    "detail": one.detail,
                    "figures": [self.draw(self.known[path]) for path in one.paths[:_PER_FINDING]],
                    "left": max(0, len(one.paths) - _PER_FINDING),
                }
                for one in found[:num_pictured]
            ],
            "listed": [
                {
                    "detail": one.detail,
                    "paths": [self.shorten(path) for path in one.paths[:_PER_FINDING]],
                    "left": max(0, len(one.paths) - _PER_FINDING),
                }
                for one in listed
            ],
            "left": len(found) - len(found[:num_pictured]) - len(listed),
        }

    def draw_classes(self, readable: pl.DataFrame) -> list[dict[str, Any]]:
        """A few images of each class, from all over it."""
        sheet = []
        for label in sorted(readable["label"].unique())[:_CLASSES]:
            rows = readable.filter(label=label)
            chosen = rows[:: max(1, len(rows) // _PER_CLASS)].head(_PER_CLASS)
            sheet.append({"name": label, "figures": [self.draw(row) for row in chosen.iter_rows(named=True)]})
        return sheet

    def draw(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A picture and what stands under it."""
        group = row["group"] if row["group"] != tidy(row["path"]) else None
        facts = [f"{name} {row[name]}" for name in ("split", "label") if row[name] is not None]
        return {
            "source": self.thumbnails.draw(row["path"]),
            "path": self.shorten(row["path"]),
            "facts": [*facts, *([f"group {group}"] if group is not None else [])],
        }

    def shorten(self, path: str) -> str:
        return path.removeprefix(self.top)
