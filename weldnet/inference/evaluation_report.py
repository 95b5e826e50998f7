"""EvaluationReport: the outcome of testing one set of images, as figures and as tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from scipy.special import softmax

from weldnet.evaluation.arrays import Floats, Labels
from weldnet.evaluation.assessment import assess
from weldnet.evaluation.judge import Judgement
from weldnet.evaluation.metrics import CLASS_METRICS, METRICS, cross_entropy, show_figure, summarise
from weldnet.evaluation.verdicts import REFER


@dataclass(frozen=True)
class EvaluationReport:
    """The outputs of a classifier for some images, and what is computed from them.

    Attributes:
        logits: (N, C); `labels` (N,) are indices into the C `classes`.
        samples: table with the N paths, labels and groups, in the same order.
        facts: what else `metrics.json` states: split, digests, warnings.
        judgement: calibrated probabilities and verdicts of the N images; None where the checkpoint has no judge.
    """

    logits: Floats
    labels: Labels
    classes: Sequence[str]
    samples: pl.DataFrame
    facts: dict[str, Any]
    judgement: Judgement | None = None
    good_classes: Sequence[str] = ()

    def metrics(self) -> dict[str, Any]:
        """The keys of `metrics.json`: those of `summarise`, `loss_calibrated`, and the facts."""
        metrics = summarise(self.logits, self.labels, self.classes, self.samples["group"].to_list())
        if self.judgement:
            calibrated = cross_entropy(self.logits / self.judgement.judge.temperature, self.labels)
            metrics["loss_calibrated"] = float(calibrated.mean())
        return metrics | self.facts

    def predictions(self) -> pl.DataFrame:
        """`path,label,group,predicted,iso_6520_1,verdict,unlike_training,p_<class>...`, one row an image.

        `iso_6520_1` is the number and name of the predicted class there; p is calibrated.
        """
        predicted, judgement = np.array(self.classes)[self.logits.argmax(axis=1)], self.judgement
        probabilities = judgement.probabilities if judgement else softmax(self.logits, axis=1)
        rows = len(self.labels)
        return self.samples.select("path", "label", "group").with_columns(
            pl.Series("predicted", predicted, pl.String),
            pl.Series("iso_6520_1", [self.facts.get("vocabulary", {}).get(name) for name in predicted], pl.String),
            pl.Series("verdict", judgement.verdicts if judgement else [REFER] * rows, pl.String),
            pl.Series("unlike_training", judgement.unlike_training if judgement else [None] * rows, pl.Boolean),
            **{f"p_{name}": pl.Series(column) for name, column in zip(self.classes, probabilities.T, strict=True)},
        )

    def assess(self) -> dict[str, Any]:
        """The keys of `report.json`: those of `assessment.assess`, and the facts."""
        groups = self.samples["group"].to_list()
        return assess(self.logits, self.labels, self.classes, groups, self.judgement, self.good_classes) | self.facts

    def title(self) -> str:
        """What was tested, and whether the network had seen it."""
        seen, images = self.facts.get("num_trained_on", 0), len(self.labels)
        known = "" if not seen else ", all of them trained on" if seen == images else f", {seen:,} of them trained on"
        return f"{self.facts['split']}: {images:,} images{known}{' (LEAK)' if self.facts.get('leaks') else ''}"

    def table(self) -> Table:
        """The figures as a table for the terminal."""
        return draw_table(self.metrics(), self.title(), caption_leaks(self.facts.get("leaks", [])))


def draw_table(metrics: dict[str, Any], title: str, caption: Text | None = None) -> Table:
    """The keys of `summarise` as a table for the terminal."""
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("class")
    keys = [metric.key for metric in CLASS_METRICS if metric.ratio]
    for name in (*keys, "support"):
        table.add_column(name, justify="right")
    for name, row in metrics["per_class"].items():
        if row["support"]:
            table.add_row(escape(name), *(show_figure(row[key]) for key in keys), str(row["support"]))
        else:
            table.add_row(escape(name), "not measured", *[""] * (len(keys) - 1), "0", style="dim")
    table.add_section()
    for metric in METRICS:
        table.add_row(metric.key, "", show_figure(metrics[metric.key]))
    return table


def caption_leaks(leaks: Sequence[str]) -> Text | None:
    """What stands in red below a table whose figures measure memory; None without leaks."""
    return Text("\n".join(f"LEAK: {leak}" for leak in leaks), style="bold red") if leaks else None
