"""SeedsReport: one recipe with several seeds, as a file and as a table."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.table import Table

from weldnet.files import write_json
from weldnet.training.spread import FIGURES, draw_spread, gather_notes, summarise_spread

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

    @cached_property
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
        write_json(folder / "seeds.json", self.metrics)

    def tables(self) -> list[Table]:
        """For the terminal: the figures of each seed, mean and spread."""
        rows = [report | {"seed": seed} for seed, report in self.reports.items()]
        title = f"{rows[0]['split']}: {len(rows)} of {self.num_seeds} seeds; spread: their standard deviation"
        return [draw_spread(rows, ("seed", "num_images"), self.metrics, title)]


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
