"""Mean and spread of the figures of several trainings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from weldnet.evaluation.metrics import BY_GROUP, METRICS, show_figure
from weldnet.inference.evaluation_report import caption_leaks

FIGURES = [metric.key for metric in METRICS]


def summarise_spread(rows: Sequence[Mapping[str, Any]], members: str) -> dict[str, Any]:
    """`mean`, `spread` (standard deviation, ddof=1) and `spread_is` of the figures of several trainings.

    A figure that a training lacks has no mean and no spread. One training alone has no spread.
    """
    values = {name: [row[name] for row in rows] for name in FIGURES}
    complete = {name: numbers for name, numbers in values.items() if None not in numbers}
    means = {name: float(np.mean(numbers)) for name, numbers in complete.items()}
    deviations = {name: float(np.std(numbers, ddof=1)) for name, numbers in complete.items() if len(rows) > 1}
    return {
        "mean": {name: means.get(name) for name in FIGURES},
        "spread": {name: deviations.get(name) for name in FIGURES},
        "spread_is": f"standard deviation over the {members}, ddof=1",
    }


def gather_notes(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The `leaks` and the `warnings` of all trainings, each sentence once."""
    return {name: list(dict.fromkeys(note for row in rows for note in row[name])) for name in ("leaks", "warnings")}


def draw_spread(
    rows: Sequence[Mapping[str, Any]], facts: Sequence[str], summary: Mapping[str, Any], title: str
) -> Table:
    """A row for each of several trainings, and below them mean and spread.

    Args:
        rows: the `facts` and the figures of each.
        facts: the keys of what names and describes a training.
        summary: what `summarise_spread` returns, with the `leaks`.
    """
    leaks = caption_leaks(summary["leaks"])
    table = Table(title=title, title_justify="left", caption=leaks, caption_justify="left")
    for name in (*facts, *FIGURES):
        heading = "by weld" if name == BY_GROUP else name.removeprefix("num_").removesuffix("_accuracy")
        table.add_column(heading, justify="left" if name == facts[0] else "right")
    for row in rows:
        table.add_row(*(str(row[name]) for name in facts), *(show_figure(row[name]) for name in FIGURES))
    if len(rows) > 1:
        blanks = [""] * (len(facts) - 1)
        table.add_section()
        table.add_row("mean", *blanks, *(show_figure(summary["mean"][name]) for name in FIGURES))
        table.add_row("spread", *blanks, *(f"± {show_figure(summary['spread'][name])}" for name in FIGURES))
    return table
