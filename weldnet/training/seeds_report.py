"""SeedsReport: one recipe with several seeds, as a file and as a table."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from weldnet.evaluation.metrics import show_figure
from weldnet.files import write_json
from weldnet.inference.evaluation_report import caption_leaks
from weldnet.training.spread import FIGURES, close_table, gather_notes, head_table, summarise_spread

HEADLINE = "balanced_accuracy"
"""Whose intervals the table shows."""

_OF_SEED = (
    "num_images",
    "num_groups",
    "not_measured",
    "num_trained_on",
    "validation_groups",
    "selection",
    "split_digest",
)


@dataclass(frozen=True)
class SeedsReport:
    """The `report.json` of one recipe with several seeds, fewer than `num_seeds` while some are still to be trained."""

    reports: dict[int, dict[str, Any]]
    num_seeds: int

    def metrics(self) -> dict[str, Any]:
        """The content of `seeds.json`; the intervals of each seed's figures are those over whole groups."""
        reports = list(self.reports.values())
        validations = [report["validation"] for report in reports if report["validation"]]
        return {
            "num_seeds": self.num_seeds,
            "split": reports[0]["split"],
            **summarise_spread(reports, "seeds"),
            "validation": summarise_spread(validations, "seeds") if validations else None,
            "seeds": [_describe(seed, report) for seed, report in self.reports.items()],
            **gather_notes(reports),
        }

    def save(self, folder: Path) -> None:
        """Writes `seeds.json`, all or nothing."""
        write_json(folder / "seeds.json", self.metrics())

    def tables(self) -> list[Table]:
        """For the terminal: the seeds."""
        return [self.table(self.metrics())]

    def table(self, metrics: dict[str, Any]) -> Table:
        """The figures of each seed, mean and spread, from `metrics()`; of `HEADLINE` the intervals, too."""
        seeds = metrics["seeds"]
        found = seeds[0]["figures"][HEADLINE]
        reason = (
            f"no interval: {found['reason'].partition(':')[0]}"
            if found["low"] is None
            else f"95 %: {found['interval_is']}"
        )
        table = head_table(
            "seed",
            ["images"],
            title=f"{metrics['split']}: {len(seeds)} of {self.num_seeds} seeds; spread: their standard deviation",
            caption=Text("\n").join(filter(None, [Text(reason), caption_leaks(metrics["leaks"])])),
        )
        table.add_column("balanced, 95 %", justify="right")
        for row in seeds:
            figures = row["figures"]
            low, high = (figures[HEADLINE][bound] for bound in ("low", "high"))
            interval = "-" if low is None else f"{show_figure(low)} to {show_figure(high)}"
            values = (show_figure(figures[name]["value"]) for name in FIGURES)
            table.add_row(str(row["seed"]), str(row["num_images"]), *values, interval)
        if len(seeds) > 1:
            close_table(table, metrics, 1)
        return table


def read_seeds(folders: dict[int, Path], num_seeds: int) -> SeedsReport:
    """The report of the finished seeds, at least one, from the files their tests left in their run folders."""
    reports = {seed: json.loads((folder / "report.json").read_text("utf-8")) for seed, folder in folders.items()}
    return SeedsReport(reports, num_seeds)


def _describe(seed: int, report: dict[str, Any]) -> dict[str, Any]:
    figures = {
        name: {key: value for key, value in report["by_group"][name].items() if key != "per_group"} for name in FIGURES
    }
    validation = report["validation"]
    return {
        "seed": seed,
        "figures": figures,
        "validation": validation and {name: validation[name] for name in FIGURES},
        **{name: report[name] for name in _OF_SEED},
    }
