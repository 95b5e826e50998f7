"""The figures of a training after each of its epochs: `history.csv` in the run folder."""

import logging
import math
from pathlib import Path

import polars as pl

from weldnet.files import read_csv, write_csv

log = logging.getLogger(__name__)

HISTORY = "history.csv"

Epoch = dict[str, float | None]
"""`epoch`, from 1, and figures named as monitors are; None for what was not measured after it, or has no number."""


def keep_finite(value: float | None) -> float | None:
    """The value; None where it is no finite number."""
    return value if value is not None and math.isfinite(value) else None


def read_history(run: Path) -> list[Epoch]:
    """The epochs of a run; none, and a warning, where the file is damaged."""
    file = run / HISTORY
    if not file.is_file():
        return []
    try:
        rows = read_csv(file).cast(pl.Float64).to_dicts()
        epochs = [{key: keep_finite(value) for key, value in row.items()} for row in rows]
        if any(each.get("epoch") is None for each in epochs):
            raise ValueError("a row has no epoch")
        return epochs
    except (OSError, ValueError, StopIteration, pl.exceptions.PolarsError) as error:
        log.warning("%s is damaged, so there are no learning curves: %s", file, error)
        return []


def write_history(run: Path, epochs: list[Epoch]) -> None:
    """Writes `history.csv`, all or nothing."""
    write_csv(run / HISTORY, pl.DataFrame(epochs, infer_schema_length=None).cast({"epoch": pl.Int64}))
