"""From a test to the page an inspector reads: mistakes, heatmaps, and what the figures rest on."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from matplotlib.figure import Figure

from weldnet.audit.classes import check_confounding, check_groups, check_small_classes
from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.evaluation.comparison import compare
from weldnet.evaluation.metrics import cross_entropy
from weldnet.explain.attribution import draw_overlay, explain_images
from weldnet.explain.settings import HeatmapSettings
from weldnet.files import write_csv, write_json
from weldnet.hardware.devices import choose_device
from weldnet.inference.checkpoint import Checkpoint
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.inference.finished_runs import run_of
from weldnet.inference.history import read_history
from weldnet.inference.settings import DeviceSettings
from weldnet.model.network import WeldNet
from weldnet.report.album import Pixels, draw_gallery
from weldnet.report.charts import save_chart
from weldnet.report.confusion_chart import draw_confusion
from weldnet.report.overview import PAIR
from weldnet.report.photographs import MOST, RIGHT, Gallery, choose_samples, copy_photographs, rank
from weldnet.report.sections import save_report
from weldnet.report.tables import count_splits

NUM_HEATMAPS = 48
"""Of the worst mistakes and escapes on the page."""
NUM_DRAWN = 12
"""Of those in the figure for the loggers."""


def save_evaluation(tested: EvaluationReport, folder: Path, metrics: dict[str, Any] | None = None) -> None:
    """Writes `metrics.json`, `predictions.csv` and `confusion_matrix.png`, each all or nothing.

    Args:
        folder: an existing folder.
        metrics: what `metrics.json` is to hold; None for `tested.metrics()`.
    """
    tested_metrics = tested.metrics()
    write_json(folder / "metrics.json", metrics or tested_metrics)
    write_csv(folder / "predictions.csv", tested.predictions())
    matrix = np.array(tested_metrics["confusion_matrix"])
    chart = draw_confusion(matrix, tested.classes, tested.title(), tested.good_classes)
    save_chart(chart, folder / "confusion_matrix.png")


def write_report(
    checkpoint: Checkpoint,
    data: WeldDataModule,
    tested: EvaluationReport,
    folder: Path,
    *,
    validation: EvaluationReport | None = None,
    device: str = DeviceSettings.device,
) -> tuple[dict[str, Any], Figure | None]:
    """Writes `report.json`, `report.html` and, in `report_files/`, its photographs into a folder.

    Args:
        data: that the checkpoint was tested on, set up.
        tested: the outcome.
        validation: the outcome on the training's validation images, if they are at hand.

    Returns:
        The keys of `report.json`, and a figure of the worst mistakes and their heatmaps, if there are any.
    """
    report, split = tested.assess(), tested.facts["split"]
    predictions = tested.predictions()
    ranked = rank(predictions, cross_entropy(tested.logits, tested.labels), tested.good_classes)
    worst = ranked.filter(pl.col("kind") != RIGHT)["row"].head(NUM_HEATMAPS).to_list()
    network, size = checkpoint.shared.network.to(choose_device(device)), data.geometry
    overlays, resolution = _explain(network, data, tested, worst) if worst else ({}, None)
    about = {"method": HeatmapSettings.method, "layer": network.backbone.choose_layer(size.height, size.width)}
    report |= {
        "validation": None if validation is None else validation.assess(),
        "data": count_splits(data.samples("all")),
        "audit": _audit(data),
        "provenance": _provenance(checkpoint),
        "history": read_history(run_of(checkpoint.path)) if checkpoint.path.parent.name == "checkpoints" else [],
        "explanation": about | {"resolution": resolution} if worst else None,
        "worst_mistakes": worst,
    }
    shown, samples = ranked.head(MOST), choose_samples(predictions)
    rows = list(dict.fromkeys([*shown["row"], *samples["row"]]))
    sizes = copy_photographs(data.samples(split), rows, data.geometry.window, folder)
    save_report(report, Gallery(predictions, shown, sizes, overlays, samples), folder)
    title = "worst mistakes and their heatmaps ({method}, {layer})".format(**about)
    return report, _draw_mistakes(tested, worst[:NUM_DRAWN], overlays, title) if worst else None


def _explain(
    network: WeldNet, data: WeldDataModule, tested: EvaluationReport, rows: list[int]
) -> tuple[dict[int, Pixels], list[int]]:
    """Photographs beside their heatmaps, by row, and the rows and columns of the maps."""
    split, predicted = tested.facts["split"], torch.from_numpy(tested.logits[rows].argmax(axis=1))
    maps, resolution = explain_images(network, torch.from_numpy(data.dataset(split).pictures(rows)), predicted)
    return dict(zip(rows, map(draw_overlay, data.photographs(split, rows), maps), strict=True)), [*resolution]


def _draw_mistakes(tested: EvaluationReport, rows: list[int], overlays: dict[int, Pixels], title: str) -> Figure:
    names, predicted = tested.classes, tested.logits.argmax(axis=1)
    captions = [f"{names[tested.labels[row]]}\npredicted {names[predicted[row]]}" for row in rows]
    return draw_gallery([overlays[row] for row in rows], captions, title)


def _audit(data: WeldDataModule) -> list[dict[str, str]]:
    """Findings from the splits and classes alone; `weldnet-audit` also reads the pictures."""
    samples = data.samples("all")
    findings = [*check_groups(samples), *check_small_classes(samples), *check_confounding(samples)]
    # The first of the warnings above them names the welds that validation knows.
    shown = [each for each in findings if (each.kind, each.severity) != ("group_leak", "warning")]
    return [{key: getattr(each, key) for key in ("kind", "severity", "detail")} for each in shown]


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    card = checkpoint.card
    return {
        "checkpoint": str(checkpoint.path),
        "checkpoint_digest": checkpoint.digest,
        "split_digest": card.split_digest,
        "config": card.config,
        "versions": card.versions,
        "git_commit": card.git_commit,
        "trained_epochs": checkpoint.num_epochs,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def compare_reports(first: EvaluationReport, second: EvaluationReport) -> dict[str, Any]:
    """The keys of `comparison.json`: those of `compare`, and the photographs on which the two differ.

    Raises:
        InputError: they are not of the same images.
    """
    facts = ["path", "label", "group", "digest"]
    if not first.samples.select(facts).equals(second.samples.select(facts), null_equal=True):
        raise InputError(
            "the two were tested on different images, labels or welds; name the data for both: data=folder "
            "data.root=DIR"
        )
    good = first.good_classes if list(first.good_classes) == list(second.good_classes) else ()
    groups = [group or path for group, path in first.samples.select("group", "path").iter_rows()]
    predicted = first.logits.argmax(axis=1), second.logits.argmax(axis=1)
    found = compare(*predicted, first.labels, groups, first.classes, good)
    names = np.array(first.classes)
    columns = [pl.Series(name, names[each], pl.String) for name, each in zip(PAIR, predicted, strict=True)]
    differing = first.samples.select("path", "label").with_columns(columns).with_row_index("row")
    facts = ["checkpoint_digest", "split", "num_trained_on", "leaks"]
    return found | {
        "photographs": differing[found["differing"]].to_dicts(),
        "good_classes": list(good),
        **{name: {key: each.facts[key] for key in facts} for name, each in zip(PAIR, (first, second), strict=True)},
    }
