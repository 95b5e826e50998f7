"""predictions.jsonl, written row by row, resumed after an interruption; predictions.csv, made of it."""

import heapq
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import polars as pl

from weldnet.errors import InputError
from weldnet.files import name_failures, replace_file
from weldnet.inference.prediction import name_columns, to_cells

LINES = "predictions.jsonl"
TABLE = "predictions.csv"
PART = "predictions.rank"
"""The stem of the file of one of several processes, before its number."""

NUM_WORST = 24
"""Of `explain=worst`."""
NUM_NAMED = 5
"""Unreadable files that the terminal names; all of them are in the column `error`."""
UNREADABLE = "unreadable"
"""Stands instead of a verdict for files that cannot be read."""

_BATCH = 4096

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a run of predictions gave, those of earlier, interrupted runs in the same folder included.

    Attributes:
        verdicts: how many files have each; `unreadable` for those without.
        classes: by predicted class, how many files have each verdict.
        unreadable: path and error of the first of those without a verdict.
        unlike_training, damaged: how many are, and were referred.
        worst: paths of those of this run's images that the model is least sure of.
    """

    verdicts: dict[str, int]
    classes: dict[str, dict[str, int]]
    unreadable: list[str]
    unlike_training: int
    damaged: int
    worst: list[str]

    @property
    def num_unreadable(self) -> int:
        return self.verdicts.get(UNREADABLE, 0)


def to_line(row: Row) -> str:
    """A row of `predictions.jsonl`."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def to_table(rows: Sequence[Row], classes: Sequence[str]) -> str:
    """Rows of `predictions.csv`, one at least."""
    cells = [to_cells(row, classes) for row in rows]
    return pl.from_dicts(cells, infer_schema_length=None).write_csv(include_header=False)


@contextmanager
def append_rows(file: Path, to_text: Callable[[Row], str] = to_line) -> Iterator[Callable[[Row], None]]:
    """Within it, a function that appends a row to a file at once; afterwards all are on the disk."""
    # Without a buffer, so that a killed run loses no more than the row it was at.
    with file.open("ab", buffering=0) as lines:

        def append(row: Row) -> None:
            line = to_text(row).encode()
            with name_failures(file):
                while line:
                    line = line[lines.write(line) :]

        yield append
        with name_failures(file):
            os.fsync(lines.fileno())


def read_rows(file: Path) -> Iterator[Row]:
    """The rows of a file of JSON lines but for a last one that was cut off; an InputError for any other line."""
    needed = set(name_columns(()))
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
                # Before weldnet looked for damage, there was no such column.
                row.setdefault("damaged", None)
                if not isinstance(row["path"], str) or not needed <= set(row):
                    raise TypeError
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{file} row {number} is no prediction; name a different output_dir, or remove the row"
                ) from error
            yield row


def gather_rows(folder: Path, again: Collection[str] = ()) -> set[str]:
    """Makes one file of all that processes left, in the order of the source, all or nothing; a prediction stands once.

    Rows of the paths `again` are dropped where they hold an error. Returns the paths that have a row.
    """
    done: set[tuple[str, str]] = set()
    lines, ranks = folder / LINES, {path.stem.removeprefix(PART): path for path in folder.glob(f"{PART}*.jsonl")}
    files = [ranks[rank] for rank in sorted(filter(str.isdecimal, ranks), key=int)]
    # Process r has every n-th image, from the r-th on.
    turns = chain.from_iterable(zip_longest(*map(read_rows, files)))
    with replace_file(lines) as temporary, append_rows(temporary) as append:
        for row in chain(read_rows(lines) if lines.exists() else (), filter(None, turns)):
            # A watched folder can have a file more than once, written again meanwhile.
            key = (row["path"], row["time"])
            if key not in done and (row["error"] is None or row["path"] not in again):
                done.add(key)
                append(row)
    for file in files:
        file.unlink()
        # An older weldnet's.
        file.with_suffix(".csv").unlink(missing_ok=True)
    return {path for path, _ in done}


def write_table(folder: Path, classes: Sequence[str], own: Collection[str]) -> Outcome:
    """Writes `predictions.csv`, all or nothing, and counts its rows; the worst are chosen from the paths `own`."""
    rows, columns = read_rows(folder / LINES), list(to_cells({}, classes))
    counts: Counter[tuple[str | None, str]] = Counter()
    unlike = damaged = 0
    worst: list[tuple[float, str]] = []
    unreadable: list[str] = []
    with replace_file(folder / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as table:
        table.write(pl.DataFrame(schema=columns).write_csv())
        while batch := list(islice(rows, _BATCH)):
            table.write(to_table(batch, classes))
            counts.update((row["predicted"], row["verdict"] or UNREADABLE) for row in batch)
            unlike += sum(bool(row["unlike_training"]) for row in batch)
            damaged += sum(bool(row["damaged"]) for row in batch)
            named = [row for row in batch if row["error"] is None and row["path"] in own]
            worst = heapq.nsmallest(NUM_WORST, worst + [(row[f"p_{row['predicted']}"], row["path"]) for row in named])
            failed = (f"{row['path']}: {row['error']}" for row in batch if row["error"] is not None)
            unreadable += islice(failed, NUM_NAMED - len(unreadable))
    verdicts: Counter[str] = Counter()
    by_class: dict[str, dict[str, int]] = {name: {} for name in classes}
    for (predicted, verdict), number in counts.items():
        verdicts[verdict] += number
        if predicted is not None:
            by_class[predicted][verdict] = number
    return Outcome(dict(verdicts), by_class, unreadable, unlike, damaged, [path for _, path in worst])
