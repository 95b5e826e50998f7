"""The table of a study: what each recipe is worth, what it costs, and which one the rule of docs/recipe.md chooses."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from study_cells import PREDICTIONS, Cell

from weldnet.evaluation.arrays import Floats
from weldnet.evaluation.bootstrap import Statistic, bootstrap_groups, resample_means, resample_rates
from weldnet.evaluation.metrics import cross_entropy, index_groups
from weldnet.files import write_json, write_text

MOST_PER_EPOCH, MOST_IN_ALL = 2.0, 4.0
"""What a recipe may cost, in times of the baseline."""

TIE = 0.02
"""A recipe whose gain is lower than the best one's by no more than this is as good, if it costs less."""

RESAMPLES = 1000

FIGURE = "balanced_accuracy"

Results = dict[Cell, dict[str, Any]]


@dataclass(frozen=True)
class Worth:
    """What a recipe is worth on one set: means over the seeds; `spread` is their standard deviation, ddof=1.

    `interval` is that of a bootstrap of whole groups, of 95 %; `difference` that of the difference to the baseline, on
    the same images and resamples. None where there are too few groups, or seeds. `flips` is the balanced accuracy of
    the mean over an image's flips; None for cells that were measured before it.
    """

    seeds: list[int]
    balanced_accuracy: float
    loss: float
    num_images: int
    spread: float | None = None
    interval: tuple[float, float] | None = None
    gain: float | None = None
    difference: tuple[float, float] | None = None
    flips: float | None = None


@dataclass(frozen=True)
class Row:
    """A recipe: its worth by set; its cost in times of the baseline's, for an epoch and in all; its failed cells.

    `gain` is the share of the baseline's errors that it avoids, (b - b0) / (1 - b0) of balanced accuracy, the mean over
    the sets that choose; None while one of them is not complete.
    """

    recipe: str
    adds: list[str]
    sets: dict[str, Worth] = field(default_factory=dict)
    gain: float | None = None
    per_epoch: float | None = None
    in_all: float | None = None
    failures: list[str] = field(default_factory=list)

    @property
    def is_allowed(self) -> bool:
        """Whether all of it was measured, and costs no more than a recipe may."""
        if self.failures or None in (self.gain, self.per_epoch, self.in_all):
            return False
        return (self.per_epoch or 0) <= MOST_PER_EPOCH and (self.in_all or 0) <= MOST_IN_ALL


def tabulate(cells: Sequence[Cell], adds: dict[str, list[str]], baseline: str, choosing: Sequence[str]) -> list[Row]:
    """A row for each recipe, the greatest gain first.

    Args:
        adds: the overrides of each recipe.
        choosing: the sets by which a recipe is chosen.
    """
    results = {cell: result for cell in cells if (result := cell.read())}
    rows = [_describe(recipe, own, cells, results, baseline, choosing) for recipe, own in adds.items()]
    return sorted(rows, key=lambda row: -np.inf if row.gain is None else row.gain, reverse=True)


def choose(rows: Sequence[Row]) -> Row | None:
    """The recipe that docs/recipe.md's rule chooses; None where none is allowed."""
    allowed = [row for row in rows if row.is_allowed]
    best = max((row.gain or 0 for row in allowed), default=0)
    tied = [row for row in allowed if (row.gain or 0) >= best - TIE]
    return min(tied, key=lambda row: row.in_all or 0, default=None)


def measure_chance(rows: Sequence[Row], baseline: str, choosing: Sequence[str]) -> float | None:
    """The gain that the baseline's own spread over its seeds amounts to; None with one seed."""
    (own,) = (row for row in rows if row.recipe == baseline)
    worths = [own.sets[name] for name in choosing if name in own.sets]
    shares = [each.spread / (1 - each.balanced_accuracy) for each in worths if each.spread is not None]
    return statistics.mean(shares) if shares else None


def _describe(
    recipe: str,
    adds: list[str],
    cells: Sequence[Cell],
    results: Results,
    baseline: str,
    choosing: Sequence[str],
) -> Row:
    own = [cell for cell in cells if cell.recipe == recipe]
    failures = [f"{cell}: {results[cell]['error']}" for cell in own if "error" in results.get(cell, {})]
    sets = {}
    for name in dict.fromkeys(cell.set for cell in own):
        mine, theirs = (_pool(each, name, cells, results) for each in (recipe, baseline))
        if mine:
            sets[name] = _measure(mine, {} if recipe == baseline else theirs)
    gains = [0.0 if recipe == baseline else sets[name].gain for name in choosing if name in sets]
    known = [gain for gain in gains if gain is not None]
    gain = statistics.mean(known) if known and len(known) == len(choosing) else None
    costs = {key: _compare_costs(key, own, cells, results, baseline) for key in ("epoch_s", "training_s")}
    return Row(recipe, adds, sets, gain, costs["epoch_s"], costs["training_s"], failures)


def _compare_costs(
    key: str, own: Sequence[Cell], cells: Sequence[Cell], results: Results, baseline: str
) -> float | None:
    """The seconds under a key of a recipe's cells in times of the baseline's on the same images with the same seed."""
    theirs = {(cell.set, cell.fold, cell.seed): results.get(cell, {}) for cell in cells if cell.recipe == baseline}
    pairs = [(results.get(cell, {}).get(key), theirs[cell.set, cell.fold, cell.seed].get(key)) for cell in own]
    both = [(mine, other) for mine, other in pairs if mine and other]
    return sum(mine for mine, _ in both) / sum(other for _, other in both) if both else None


def _pool(recipe: str, name: str, cells: Sequence[Cell], results: Results) -> dict[int, pl.DataFrame]:
    """The predictions of a recipe on a set by seed, those of all folds in one table; only seeds with every fold."""
    own = [cell for cell in cells if (cell.recipe, cell.set) == (recipe, name)]
    pooled = {}
    for seed in dict.fromkeys(cell.seed for cell in own):
        folds = [cell for cell in own if cell.seed == seed]
        if all("classes" in results.get(cell, {}) for cell in folds):
            pooled[seed] = pl.concat([_read_predictions(cell, results[cell]) for cell in folds]).sort("path")
    return pooled


def _read_predictions(cell: Cell, result: dict[str, Any]) -> pl.DataFrame:
    """`path`, `group`, `label`, `predicted`, `flipped` (all three as numbers) and `loss` of a cell's images."""
    table = pl.read_parquet(cell.folder / PREDICTIONS)
    logits = table["logits"].to_numpy()
    labels = table["label"].cast(pl.Enum(result["classes"])).to_physical().to_numpy().astype(np.int64)
    flipped = table["flipped"] if "flipped" in table.columns else pl.lit(None, pl.Int64)
    return table.select("path", "group").with_columns(
        label=labels, predicted=logits.argmax(axis=1), flipped=flipped, loss=cross_entropy(logits, labels)
    )


def _measure(mine: dict[int, pl.DataFrame], theirs: dict[int, pl.DataFrame]) -> Worth:
    own = _average_seeds(mine.values())
    names, _ = index_groups(next(iter(mine.values()))["group"].to_list())
    figures = bootstrap_groups([own], names, RESAMPLES)
    each = [_balanced_accuracy(table) for table in mine.values()]
    flipped = [table.with_columns(predicted="flipped") for table in mine.values()]
    worth = Worth(
        seeds=list(mine),
        num_images=len(next(iter(mine.values()))),
        balanced_accuracy=figures[FIGURE]["value"],
        loss=figures["loss"]["value"],
        spread=statistics.stdev(each) if len(each) > 1 else None,
        interval=_take_interval(figures),
        flips=None
        if any(table["flipped"].has_nulls() for table in flipped)
        else statistics.mean(map(_balanced_accuracy, flipped)),
    )
    if not theirs:
        return worth
    subtrahend = _average_seeds(theirs.values())

    def subtract(weights: Floats) -> dict[str, Floats]:
        return {FIGURE: own(weights)[FIGURE] - subtrahend(weights)[FIGURE]}

    difference = bootstrap_groups([subtract], names, RESAMPLES)
    before = float(subtrahend(np.ones((1, len(names))))[FIGURE][0])
    gain = difference[FIGURE]["value"] / (1 - before) if before < 1 else 0.0
    return replace(worth, gain=gain, difference=_take_interval(difference))


def _balanced_accuracy(table: pl.DataFrame) -> float:
    return float(_average_seeds([table])(np.ones((1, table["group"].n_unique())))[FIGURE][0])


def _average_seeds(tables: Iterable[pl.DataFrame]) -> Statistic:
    """The means over seeds of balanced accuracy and loss, from predictions of the same images."""
    parts = []
    for table in tables:
        labels, predicted = table["label"].to_numpy(), table["predicted"].to_numpy()
        _, groups = index_groups(table["group"].to_list())
        classes = [str(index) for index in range(max(labels.max(), predicted.max()) + 1)]
        parts.append(resample_rates(predicted, labels, groups, classes))
        parts.append(resample_means({"loss": table["loss"].to_numpy()}, groups))

    def measure(weights: Floats) -> dict[str, Floats]:
        figures = [part(weights) for part in parts]
        return {key: np.mean([each[key] for each in figures if key in each], axis=0) for key in (FIGURE, "loss")}

    return measure


def _take_interval(figures: dict[str, dict[str, Any]]) -> tuple[float, float] | None:
    row = figures[FIGURE]
    return None if row["low"] is None else (row["low"], row["high"])


def write_table(rows: Sequence[Row], file: Path, notes: Sequence[str], baseline: str) -> str:
    """Writes the rows as Markdown and, beside it, as JSON.

    Args:
        file: of the Markdown.
        notes: sentences below the table.

    Returns:
        The Markdown.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.sets))
    heads = ["recipe", "adds", "gain", *(f"{name}: balanced accuracy" for name in names)]
    heads += [*(f"{name}: loss" for name in names), "per epoch", "in all"]
    lines = [" | ".join(heads), " | ".join(["---", "---", *["---:"] * (len(heads) - 2)])]
    for row in rows:
        cells = [row.recipe, " ".join(f"`{override}`" for override in row.adds) or "", _show(row.gain, "+.2f")]
        cells += [_show_worth(row.sets.get(name)) for name in names]
        cells += [_show(row.sets[name].loss if name in row.sets else None, ".2f") for name in names]
        cells += [_show(row.per_epoch, ".2f", " x"), _show(row.in_all, ".2f", " x")]
        lines.append(" | ".join(cells))
    failures = [f"Not measured: {failure}." for row in rows for failure in row.failures]
    text = "\n".join([*(f"| {line} |" for line in lines), "", *notes, *failures]) + "\n"
    write_text(file, text)
    content = {"baseline": baseline, "notes": list(notes), "recipes": [asdict(row) for row in rows]}
    write_json(file.with_suffix(".json"), content)
    return text


def _show(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def _show_worth(worth: Worth | None) -> str:
    """`0.512 ± 0.031 (0.45 to 0.57), -0.02 to +0.08; flips 0.520`: mean, spread, interval, interval of the difference,
    and the mean where each prediction is that of all flips."""
    if worth is None:
        return ""
    spread = "" if worth.spread is None else f" ± {worth.spread:.3f}"
    interval = "" if worth.interval is None else f" ({worth.interval[0]:.2f} to {worth.interval[1]:.2f})"
    difference = "" if worth.difference is None else f", {worth.difference[0]:+.2f} to {worth.difference[1]:+.2f}"
    flips = "" if worth.flips is None else f"; flips {worth.flips:.3f}"
    return f"{worth.balanced_accuracy:.3f}{spread}{interval}{difference}{flips}"
