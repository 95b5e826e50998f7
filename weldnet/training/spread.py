"""Mean and spread of the figures of several trainings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from weldnet.evaluation.metrics import METRICS, show_figure

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


def head_table(member: str, facts: Sequence[str], **settings: Any) -> Table:
    """A table without rows: a column for the training, one for each fact about it and one for each figure."""
    table = Table(member, title_justify="left", caption_justify="left", **settings)
    for name in (*facts, *FIGURES):
        table.add_column(
            name.removesuffix("_accuracy").replace("balanced_accuracy_by_group", "by weld"), justify="right"
        )
    return table


def close_table(table: Table, summary: Mapping[str, Any], num_facts: int) -> None:
    """Adds the mean and the spread from `summarise_spread` as the last rows."""
    blanks = [""] * num_facts
    table.add_section()
    table.add_row("mean", *blanks, *(show_figure(summary["mean"][name]) for name in FIGURES))
    table.add_row("spread", *blanks, *(f"± {show_figure(summary['spread'][name])}" for name in FIGURES))
