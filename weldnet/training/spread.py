"""Mean and spread of the figures of several trainings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from weldnet.evaluation.metrics import METRICS, show_figure

FIGURES = [metric.key for metric in METRICS]


def summarise_spread(rows: Sequence[Mapping[str, Any]], members: str) -> dict[str, Any]:
    """`mean`, `spread` (standard deviation, ddof=1) and `spread_is` of the figures of each training.

    A figure that one of them lacks has neither; a single one has no spread.

    Args:
        members: what they are, in the plural.
    """
    values = {name: [row[name] for row in rows] for name in FIGURES}
    measured = {name: row for name, row in values.items() if None not in row}
    deviations = {name: float(np.std(row, ddof=1)) for name, row in measured.items() if len(row) > 1}
    return {
        "mean": {name: float(np.mean(row)) if name in measured else None for name, row in values.items()},
        "spread": {name: deviations.get(name) for name in FIGURES},
        "spread_is": f"standard deviation over the {members}, ddof=1",
    }


def gather_notes(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The `leaks` and the `warnings` of any training, each once."""
    return {name: list(dict.fromkeys(each for row in rows for each in row[name])) for name in ("leaks", "warnings")}


def head_table(member: str, facts: Sequence[str], **settings: Any) -> Table:
    """A table with a column for each figure, for the trainings and the facts of each."""
    table = Table(member, title_justify="left", caption_justify="left", **settings)
    for name in (*facts, *FIGURES):
        table.add_column(
            name.removesuffix("_accuracy").replace("balanced_accuracy_by_group", "by weld"), justify="right"
        )
    return table


def close_table(table: Table, found: Mapping[str, Any], num_facts: int) -> None:
    """Adds mean and spread, as `summarise_spread` has them, below the trainings."""
    blanks = [""] * num_facts
    table.add_section()
    table.add_row("mean", *blanks, *(show_figure(found["mean"][name]) for name in FIGURES))
    table.add_row("spread", *blanks, *(f"± {show_figure(found['spread'][name])}" for name in FIGURES))
