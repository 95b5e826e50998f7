"""The page of an audit: its findings with their photographs, tables of the images, a sheet of each class."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from weldnet.audit.audit import Audit
from weldnet.audit.findings import SEVERITIES, Finding, Severity
from weldnet.data.decode.formats import open_picture, read_content
from weldnet.data.decode.images import to_geometry
from weldnet.data.decode.pictures import UnreadableImage
from weldnet.report.album import Album, Picture
from weldnet.report.audit_tables import tabulate_files, tabulate_groups, tabulate_proven
from weldnet.report.kinds import KINDS, group_findings
from weldnet.report.page import render
from weldnet.report.tables import count_splits, tabulate_data
from weldnet.report.words import capitalize, common_folder
from weldnet.spelling import tidy

_PICTURED = 144
"""Photographs of one kind of findings."""
_PER_FINDING = 6
_PER_CLASS = 8
_CLASSES = 24
_SIDE, _SIDE_ON_SHEET = 160, 110
_STRIPS = 6

_STOPS = "Training would stop at the errors."
_MEANINGS: tuple[tuple[Severity, Set[str], str], ...] = (
    (
        "error",
        {"group_leak", "cross_split_duplicate", "cross_split_view"},
        "A test score on these data would be too high: training sees what the test asks about.",
    ),
    (
        "error",
        {"cross_label_duplicate"},
        "A test score on these data would be wrong: some pictures stand under two labels.",
    ),
    ("error", KINDS.keys(), _STOPS),
    ("warning", {"label_error"}, "A test score on these data may be wrong: some labels may be."),
    (
        "warning",
        {"same_view", "cross_group_view"},
        "Split at random, a test on these data would measure memory.",
    ),
    (
        "warning",
        {"class_group_confounded", "size_predicts_class"},
        "A network could score well by recognising the weld or the cut of the picture, not the defect.",
    ),
    ("warning", KINDS.keys(), "Nothing makes a test score wrong, but read the warnings before you trust one."),
)
"""What findings of a severity and of some kinds mean for a test score, worst first."""


def render_page(audit: Audit, summary: Mapping[str, Any]) -> str:
    """The page as HTML; `summary` is that of `summarise`."""
    readable = audit.images.filter(pl.col("reason").is_null())
    photographs = Photographs(audit)
    status, sentence = judge(audit)
    skipped = audit.skipped.describe(photographs.top) if audit.skipped else ""
    groups, num_left = tabulate_groups(readable) or (None, 0)
    return render(
        "audit.html",
        title=f"Audit of {len(audit.images):,} images",
        subtitle=f"of {len(summary['classes'])} classes below {photographs.top}",
        status=status,
        sentence=sentence,
        figures=[
            {"name": f"{each}s".capitalize(), "value": f"{(number := len(audit.of(each))):,}", "kind": number and each}
            for each in SEVERITIES
        ],
        notes=[skipped] if skipped else [],
        has_errors=bool(audit.of("error")),
        commands=list_refusals(audit, photographs.top),
        summary=summary,
        # Before the findings, which may fill the album.
        sheet=photographs.show_classes(readable),
        findings=[photographs.show_findings(*group) for group in group_findings(audit.findings)],
        splits=tabulate_data(count_splits(audit.images)),
        groups=groups,
        num_left=num_left,
        shapes=audit.shapes and audit.shapes.describe(),
        strips=photographs.show_strips(readable),
        proven=tabulate_proven(summary),
        files=tabulate_files(summary),
    )


def judge(audit: Audit) -> tuple[str, str]:
    """What was found means for a test score: `not_fit`, `not_proven` or `fit`, and a sentence."""
    kinds = {severity: {found.kind for found in audit.of(severity)} for severity in SEVERITIES}
    refusal = audit.refusals.get("train", "")
    if refusal and not kinds["error"]:
        return "not_fit", "Training would refuse these data as they are."
    for severity, wanted, meaning in _MEANINGS:
        if kinds[severity] & wanted:
            if meaning == _STOPS and refusal is None:
                return "not_proven", "Training takes these data, but read the errors before you trust a test score."
            return "not_fit" if severity == "error" else "not_proven", meaning
    return "fit", "Nothing found here makes a test score wrong."


def list_refusals(audit: Audit, top: str) -> list[tuple[list[str], list[str]]]:
    """The commands that refuse alike, and their sentences, with paths below `top`; none where they take the data."""
    return [
        (
            names,
            # The root is in every path, and in other words.
            [
                line if line.startswith(" ") else capitalize(line)
                for line in words.replace(top if top != "/" else "", "").splitlines()
                if line.strip()
            ],
        )
        for names, words in audit.group_refusals()
    ]


class Photographs:
    """Findings and classes with their photographs, in the order of the page until the album is full.

    Attributes:
        top: the folder that all photographs lie below.
    """

    def __init__(self, audit: Audit) -> None:
        self.top = common_folder(audit.images["path"])
        self.album, self.geometry = Album(), audit.geometry
        wanted = {path for found in audit.findings for path in found.paths[:_PER_FINDING]}
        rows = audit.images.filter(pl.col("path").is_in(list(wanted)))
        self.known = {row["path"]: row for row in rows.iter_rows(named=True)}
        # What the search passed over is no image of the audit.
        for path in wanted - self.known.keys():
            self.known[path] = dict.fromkeys(rows.columns) | {"path": path, "reason": "not decoded"}

    def show_findings(self, severity: str, kind: str, found: Sequence[Finding]) -> dict[str, Any]:
        """One section of the page: a kind of one severity, the first findings with their photographs."""
        most = max(len(finding.paths[:_PER_FINDING]) for finding in found)
        shown = [
            {
                "detail": finding.detail,
                "figures": self._show((self.known[path] for path in finding.paths[:_PER_FINDING]), _SIDE),
                "left": max(0, len(finding.paths) - _PER_FINDING),
            }
            for finding in found[: _PICTURED // max(1, most)]
        ]
        return {
            "severity": severity,
            "kind": kind,
            "words": KINDS[kind],
            "number": len(found),
            "shown": shown,
            "left": len(found) - len(shown),
        }

    def show_strips(self, readable: pl.DataFrame) -> list[dict[str, Any]]:
        """A photograph of each class, of the median aspect, beside the network's input that is made of it."""
        shown = []
        for label in sorted(readable["label"].unique())[:_STRIPS]:
            rows = readable.filter(label=label).sort(pl.col("width") / pl.col("height"), "path")
            row = rows.row(len(rows) // 2, named=True)
            (photograph,) = self._show([row], _SIDE)
            shown.append(photograph | {"input": self._show_input(row["path"])})
        return shown

    def _show_input(self, path: str) -> Picture | None:
        plain = replace(self.geometry, normalize="imagenet")
        try:
            pixels = to_geometry(read_content(path), plain)[0]
        except UnreadableImage:
            return None
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        return self.album.embed(image, 160 * 160, _SIDE, widen=False)

    def show_classes(self, readable: pl.DataFrame) -> list[dict[str, Any]]:
        """A few images of each class, from all over it."""
        sheet = []
        for label in sorted(readable["label"].unique())[:_CLASSES]:
            rows = readable.filter(label=label)
            chosen = rows[:: max(1, len(rows) // _PER_CLASS)].head(_PER_CLASS)
            sheet.append({"name": label, "figures": self._show(chosen.iter_rows(named=True), _SIDE_ON_SHEET)})
        return sheet

    def _show(self, rows: Iterable[Mapping[str, Any]], side: int) -> list[dict[str, Any]]:
        """Photographs, or why one cannot be shown, and what stands under each."""
        shown = []
        for row in rows:
            facts = [f"{name} {row[name]}" for name in ("split", "label") if row[name] is not None]
            if row["group"] not in (None, tidy(row["path"])):
                facts.append(f"group {row['group']}")
            if row["width"] is not None:
                facts.append(f"{row['width']} x {row['height']} pixels")
            picture, missing = self._embed(row, side)
            path = row["path"].removeprefix(self.top)
            shown.append({"path": path, "facts": facts, "picture": picture, "missing": missing, "input": None})
        return shown

    def _embed(self, row: Mapping[str, Any], side: int) -> tuple[Picture | None, str]:
        """A photograph, or None and why."""
        if row["reason"] and not row["damaged"]:
            # It is not opened again: it may be a link that leaves the folder.
            return None, row["remains"] or row["reason"]
        if self.album.is_full:
            return None, "the page has no room for more"
        try:
            picture = open_picture(read_content(row["path"]), window=self.geometry.window, least=(_SIDE, _SIDE))
        except UnreadableImage as error:
            return None, str(error)
        return self.album.embed(picture.image, side * side, side), ""
