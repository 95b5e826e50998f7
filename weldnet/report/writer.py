"""From a test to the page an inspector reads: what went wrong, where the network looked, what the figures rest on."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from weldnet.audit.classes import check_confounding, check_groups, check_small_classes
from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.evaluation.comparison import compare
from weldnet.evaluation.decision import ACCEPT
from weldnet.evaluation.metrics import cross_entropy
from weldnet.explain.attribution import draw_overlay, explain_network
from weldnet.explain.settings import HeatmapSettings
from weldnet.files import write_csv, write_json
from weldnet.hardware import choose_device
from weldnet.inference.checkpoint import Checkpoint
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.inference.settings import DeviceSettings
from weldnet.model.network import WeldNet
from weldnet.report.album import Pictures
from weldnet.report.charts import draw_confusion, draw_gallery, save_chart
from weldnet.report.sections import save_report
from weldnet.report.words import summarise

NUM_WORST = 24
NUM_ESCAPES = 48
NUM_DRAWN = 12
"""Photographs on the page; all of them are in predictions.csv."""


def save_evaluation(tested: EvaluationReport, folder: Path, metrics: dict[str, Any] | None = None) -> None:
    """Writes `metrics.json`, `predictions.csv` and `confusion_matrix.png`, each all or nothing.

    Args:
        folder: an existing folder.
        metrics: what `metrics.json` is to hold; None for `tested.metrics()`.
    """
    own = tested.metrics()
    write_json(folder / "metrics.json", metrics or own)
    write_csv(folder / "predictions.csv", tested.predictions())
    matrix = np.array(own["confusion_matrix"])
    save_chart(draw_confusion(matrix, tested.classes, tested.title()), folder / "confusion_matrix.png")


def write_report(
    checkpoint: Checkpoint,
    data: WeldDataModule,
    tested: EvaluationReport,
    folder: Path,
    *,
    validation: EvaluationReport | None = None,
    device: str = DeviceSettings.device,
) -> tuple[dict[str, Any], Figure | None]:
    """Writes `report.json`, `report.html` and its figures into a folder.

    Args:
        checkpoint: what was tested.
        data: that it was tested on, set up.
        tested: the outcome.
        validation: the outcome on the training's validation images, if they are at hand.

    Returns:
        The keys of `report.json`, and a figure of the worst mistakes and where the network looked, if there are any.
    """
    report = tested.assess()
    worst, escaped = find_mistakes(tested)
    shown = np.array(sorted({*worst, *escaped}), np.int64)
    images = data.dataset(tested.facts["split"])
    network = checkpoint.network().to(choose_device(device))
    overlays, resolution = _look(network, images, shown, tested.logits.argmax(axis=1))
    explanation = {"method": HeatmapSettings.method, "layer": network.backbone.layer}
    report |= {
        "validation": None if validation is None else validation.assess(),
        "audit": _audit(data),
        "provenance": _provenance(checkpoint),
        "explanation": explanation | {"resolution": list(resolution)} if resolution else None,
        "worst_mistakes": worst,
        "escaped": escaped,
    }
    report["summary"] = summarise(report)
    pictures = Pictures(lambda rows: images.pictures(rows.tolist()), overlays)
    save_report(report, tested.predictions(), pictures, folder)
    title = f"worst mistakes, and where the network looked ({HeatmapSettings.method}, {network.backbone.layer})"
    return report, _draw_mistakes(tested, worst[:NUM_DRAWN], overlays, title)


def find_mistakes(tested: EvaluationReport) -> tuple[list[int], list[int]]:
    """The rows of the wrong images with the highest loss, and of the defects called sound or accepted, worst first."""
    losses = pl.Series(cross_entropy(tested.logits, tested.labels))
    table = tested.predictions().with_row_index("row").sort(losses, descending=True, maintain_order=True)
    good_classes = list(tested.good_classes)
    wrong = table.filter(pl.col("label") != pl.col("predicted"))
    passes = pl.col("predicted").is_in(good_classes) | (pl.col("verdict") == ACCEPT)
    escaped = table.filter(~pl.col("label").is_in(good_classes) & passes) if good_classes else table.clear()
    return wrong["row"].head(NUM_WORST).to_list(), escaped["row"].head(NUM_ESCAPES).to_list()


def _look(
    network: WeldNet, images: Any, rows: NDArray[np.int64], targets: NDArray[np.int64]
) -> tuple[dict[int, NDArray[np.uint8]], tuple[int, int] | None]:
    """Overlays of what spoke for the class that each image was called, by row, and the map's own resolution."""
    if not len(rows):
        return {}, None
    shown = images.pictures(rows.tolist())
    maps, resolution = explain_network(network, torch.from_numpy(shown), torch.from_numpy(targets[rows]))
    return dict(zip(rows.tolist(), map(draw_overlay, shown, maps), strict=True)), resolution


def _draw_mistakes(
    tested: EvaluationReport, rows: list[int], overlays: dict[int, NDArray[np.uint8]], title: str
) -> Figure | None:
    if not rows:
        return None
    names, predicted = tested.classes, tested.logits.argmax(axis=1)
    captions = [f"{names[tested.labels[row]]}\npredicted {names[predicted[row]]}" for row in rows]
    pictures = np.stack([overlays[row].transpose(2, 0, 1) for row in rows])
    return draw_gallery(pictures, captions, title)


def _audit(data: WeldDataModule) -> list[dict[str, str]]:
    """What the splits and classes alone tell; `weldnet-audit` also looks at the pictures."""
    samples = data.samples("all")
    findings = [*check_groups(samples), *check_small_classes(samples), *check_confounding(samples)]
    return [{"kind": each.kind, "severity": each.severity, "detail": each.detail} for each in findings]


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    record = checkpoint.record
    return {
        "checkpoint": str(checkpoint.path),
        "checkpoint_digest": checkpoint.digest,
        "split_digest": record.split_digest,
        "config": record.config,
        "versions": record.versions,
        "git_commit": record.git_commit,
        "trained_epochs": checkpoint.num_epochs,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def compare_reports(first: EvaluationReport, second: EvaluationReport) -> dict[str, Any]:
    """The keys of `comparison.json`: those of `Comparison.to_dict`, and the photographs on which the two differ.

    Raises:
        InputError: they are not of the same images.
    """
    columns = ["path", "label", "group", "digest"]
    if not first.samples.select(columns).equals(second.samples.select(columns), null_equal=True):
        raise InputError(
            "the two were tested on other images, labels or welds; name the data for both: data=folder data.root=DIR"
        )
    judges = [each.judgement.judge for each in (first, second) if each.judgement]
    good = judges[0].good_classes if judges and all(j.good_classes == judges[0].good_classes for j in judges) else ()
    groups = [group or path for group, path in first.samples.select("group", "path").iter_rows()]
    predicted = [report.logits.argmax(axis=1) for report in (first, second)]
    found = compare(predicted[0], predicted[1], first.labels, groups, first.classes, good)
    names = np.array(first.classes)
    differing = first.samples.select("path", "label").with_columns(
        pl.Series("first", names[predicted[0]], pl.String), pl.Series("second", names[predicted[1]], pl.String)
    )
    facts = ("checkpoint_digest", "split", "num_trained_on", "leaks")
    return found | {
        "photographs": differing[found["differing"]].to_dicts(),
        "good_classes": list(good),
        **{name: {key: report.facts[key] for key in facts} for name, report in (("first", first), ("second", second))},
    }


def draw_differences(comparison: dict[str, Any]) -> Table:
    """`comparison.json` as a table for the terminal."""
    test = comparison["mcnemar"]
    leaks = [f"LEAK ({name}): {leak}" for name in ("first", "second") for leak in comparison[name]["leaks"]]
    table = Table(
        title="second less first" + (" (LEAK)" if leaks else ""),
        title_justify="left",
        caption=f"{len(comparison['photographs'])} photographs are called differently. {test['test']}: right by "
        f"the first alone {test['num_first_only']}, by the second {test['num_second_only']}, "
        f"p = {test['p_value']:.3g}. "
        + ("" if comparison["good_classes"] else "Escapes are not compared: the two name other good classes, or none. ")
        + " ".join(leaks),
        caption_justify="left",
    )
    for column in ("figure", "difference", "95 % interval, whole welds resampled"):
        table.add_column(column)
    for name, row in comparison["differences"].items():
        interval = row["reason"] if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}"
        table.add_row(name, "-" if row["value"] is None else f"{row['value']:+.4f}", interval)
    return table
