"""Reports on random outputs, and their pages."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pages import check_page

from weldnet.evaluation.judge import Judge, Outputs, fit_judge
from weldnet.evaluation.metrics import cross_entropy
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.report.photographs import FOLDER, MOST, Gallery, choose_samples, name_file, rank
from weldnet.report.sections import save_report

HISTORY = [{"epoch": n + 1.0, "train/loss_epoch": 2.0, "val/loss": None if n else 1.5} for n in range(3)]
CLASSES = ("good", "<script>alert(1)</script>", "long " * 20, "$\\frac$ \x1b[2J", "\u202egnp")


def make_outputs(rng: np.random.Generator, number: int, num_classes: int, skill: float) -> Outputs:
    labels = rng.integers(0, num_classes, number)
    logits = rng.normal(size=(number, num_classes))
    logits[np.arange(number), labels] += skill
    return Outputs(logits, rng.normal(size=(number, 4)).astype(np.float32), labels)


def make_judge(rng: np.random.Generator, classes: tuple[str, ...], good: tuple[str, ...]) -> Judge:
    train, select, calibrate = (make_outputs(rng, 200, len(classes), 2.0) for _ in range(3))
    return fit_judge(classes, good, train, select, calibrate, by_group=True, max_escape_rate=0.05)


def make_report(
    number: int = 120,
    classes: tuple[str, ...] = CLASSES,
    *,
    welds: int | None = 12,
    good: tuple[str, ...] = ("good",),
    calibrated: bool = True,
    skill: float = 1.0,
    keep: int | None = None,
    **facts: Any,
) -> tuple[dict[str, Any], Gallery]:
    """A report on random outputs and its photographs; only images of the first `keep` classes."""
    rng = np.random.default_rng(0)
    judge = make_judge(rng, classes, good) if calibrated else None
    reports = []
    for split, more in (("test", skill), ("val", skill + 2)):
        outputs = make_outputs(rng, number, len(classes), more)
        labels = outputs.labels % (keep or len(classes))
        outputs = Outputs(outputs.logits, outputs.features, labels)
        table = pl.DataFrame(
            {
                "path": [f"/data/{split}/<i>{row}.png" for row in range(number)],
                "label": [classes[label] for label in labels],
                "group": [None if welds is None else f"<b>weld {row % welds}</b>" for row in range(number)],
            },
            schema_overrides={"group": pl.String},
        )
        known = {"split": split, "leaks": [], "warnings": [], "validation_groups": "known", "num_trained_on": 0}
        judgement, good_classes = (judge.judge(outputs), good) if judge else (None, ())
        reports.append(EvaluationReport(outputs.logits, labels, classes, table, known | facts, judgement, good_classes))
    test, validation = reports
    report = test.assess() | {"validation": validation.assess()}
    ranked = rank(test.predictions(), cross_entropy(test.logits, test.labels), test.good_classes or good)
    return report, Gallery(test.predictions(), ranked.head(MOST), samples=choose_samples(test.predictions()))


def save(report: dict[str, Any], gallery: Gallery, folder: Path) -> str:
    """The page, with a file for the first ten photographs, and the samples, and heatmaps beside some of them."""
    (folder / FOLDER).mkdir(exist_ok=True)
    assert gallery.samples is not None
    rows = gallery.ranked["row"].head(10).to_list()
    pictures = {*rows, *gallery.samples["row"]}
    for row in pictures:
        (folder / name_file(row)).write_bytes(b"")
    overlays = {row: np.zeros((50, 40, 3), np.uint8) for row in rows[5:15]}
    save_report(report, replace(gallery, sizes=dict.fromkeys(pictures, (640, 480)), overlays=overlays), folder)
    assert not list(folder.glob(".*"))
    assert json.loads((folder / "report.json").read_text())["classes"] == report["classes"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    check_page(page, folder)
    return page
