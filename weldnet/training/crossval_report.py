"""CrossvalReport: the tests of all folds together, as files and as tables."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.table import Table

from weldnet.errors import InputError, first_line
from weldnet.evaluation.metrics import BY_GROUP, index_groups, measure_groups, summarise_confusion
from weldnet.files import read_csv, write_csv, write_json, write_text
from weldnet.inference.evaluation_report import draw_table
from weldnet.report.charts import save_chart
from weldnet.report.confusion_chart import draw_confusion
from weldnet.report.overview import render_crossval
from weldnet.training.spread import FIGURES, draw_spread, gather_notes, summarise_spread

FILES = ("metrics.json", "predictions.csv", "confusion_matrix.png")
"""The files that the test of a fold leaves; a fold that has all of them is finished."""

_OF_FOLD = ("num_images", "not_measured", "num_trained_on", "validation_groups", "split_digest", "checkpoint_digest")


@dataclass(frozen=True)
class CrossvalReport:
    """The results of the classifiers of K folds on the images that each had never seen.

    Attributes:
        folds: the `metrics.json` of each fold, by its number.
        predictions: the `predictions.csv` of all of them, as text, with the column `fold`.
        num_folds: K; fewer than K are here while some are still to be trained.
        good_classes: those of sound welds.
    """

    folds: dict[int, dict[str, Any]]
    predictions: pl.DataFrame
    num_folds: int
    good_classes: Sequence[str] = ()

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of `crossval.json`."""
        groups = dict(self.predictions.group_by("fold").agg(pl.col("group").n_unique()).iter_rows())
        rows = list(self.folds.values())
        return {
            "num_folds": self.num_folds,
            **summarise_spread(rows, "folds"),
            "pooled": self._pool(),
            "folds": [
                {"fold": fold, "num_groups": groups[fold], **{name: metrics[name] for name in (*FIGURES, *_OF_FOLD)}}
                for fold, metrics in self.folds.items()
            ],
            **gather_notes(rows),
        }

    def _pool(self) -> dict[str, Any]:
        """The keys of `summarise` for all held-out images together, every image counted once."""
        metrics = list(self.folds.values())
        confusion = np.sum([fold["confusion_matrix"] for fold in metrics], axis=0)
        loss = float(np.average([fold["loss"] for fold in metrics], weights=[fold["num_images"] for fold in metrics]))
        return {
            "loss": loss,
            BY_GROUP: _measure_by_group(self.predictions),
            **summarise_confusion(confusion, metrics[0]["classes"]),
        }

    def save(self, folder: Path) -> None:
        """Writes `predictions.csv`, the confusion matrix, the page and, last, `crossval.json`, each all or nothing."""
        write_csv(folder / "predictions.csv", self.predictions)
        pooled = self.metrics["pooled"]
        matrix = np.array(pooled["confusion_matrix"])
        chart = draw_confusion(matrix, pooled["classes"], self.title(), self.good_classes)
        save_chart(chart, folder / "confusion_matrix.png")
        write_text(folder / "crossval.html", render_crossval(self.metrics, self.good_classes, folder.name))
        write_json(folder / "crossval.json", self.metrics)

    def title(self) -> str:
        """What was tested, and whether some of it leaks."""
        leak = " (LEAK)" if any(metrics["leaks"] for metrics in self.folds.values()) else ""
        return f"pooled: {len(self.predictions):,} images, each held out once, {self.num_folds} folds{leak}"

    def tables(self) -> list[Table]:
        """For the terminal: the pooled figures of each class, once all folds are here; each fold, mean and spread."""
        num_done = len(self.folds)
        pooled = [draw_table(self.metrics["pooled"], self.title())] if num_done == self.num_folds else []
        title = f"{num_done} of {self.num_folds} folds; spread: the standard deviation over them"
        return [*pooled, draw_spread(self.metrics["folds"], ("fold", "num_groups", "num_images"), self.metrics, title)]


def read_folds(folders: dict[int, Path], num_folds: int) -> CrossvalReport:
    """The report of the finished folds, at least one, from the files their tests left in their run folders."""
    folds, tables, good_classes = {}, [], list[str]()
    for fold, folder in folders.items():
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
        # As text, so that every figure is written again to the last digit.
        predictions = read_csv(folder / "predictions.csv")
        # An older version measured less.
        known = {BY_GROUP: _measure_by_group(predictions)}
        known |= summarise_confusion(np.array(metrics["confusion_matrix"]), metrics["classes"])
        folds[fold] = known | metrics
        good_classes = json.loads((folder / "report.json").read_text("utf-8"))["good_classes"]
        tables.append(predictions.insert_column(3, pl.lit(fold).alias("fold")))
    try:
        return CrossvalReport(folds, pl.concat(tables), num_folds, good_classes)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"predictions.csv of a fold is damaged: {first_line(error)}") from error


def _measure_by_group(predictions: pl.DataFrame) -> float:
    names = pl.Enum(pl.concat([predictions["label"], predictions["predicted"]]).unique())
    predicted, labels = (predictions[name].cast(names).to_physical().to_numpy() for name in ("predicted", "label"))
    _, groups = index_groups(predictions["group"].to_list())
    return float(measure_groups(predicted, labels.astype(np.int64), groups).mean())
