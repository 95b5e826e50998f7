"""predictions.jsonl and predictions.csv: written row by row, resumed after an interruption, merged from parts.

The JSON lines are the record; the CSV says the same for people's tables.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any

from weldnet.errors import InputError
from weldnet.files import name_failures, replace_file, to_csv_line
from weldnet.inference.predictor import HEAD, Prediction

NAME = "predictions"

PART = f"{NAME}.rank"
"""The stem of what one of several processes writes, before its number."""

Row = dict[str, Any]


class PredictionWriter:
    """Appends predictions to a file of JSON lines and one of CSV, each row at once.

    Args:
        files: both, in existing folders.
        classes: C names.

    Raises:
        OSError: on entering, writing or leaving: they cannot be written; the rows before are kept.
    """

    def __init__(self, files: tuple[Path, Path], classes: Sequence[str]) -> None:
        self.classes, self.files, self.stack = classes, files, ExitStack()
        self.columns = name_columns(classes)

    def __enter__(self) -> "PredictionWriter":
        try:
            # Line by line, so that a killed run loses no more than the row it was at.
            self.lines, self.table = (
                self.stack.enter_context(file.open("a", buffering=1, encoding="utf-8", newline=""))
                for file in self.files
            )
            if not self.table.tell():
                self._append("", to_csv_line(self.columns))
        except OSError:
            with suppress(OSError):
                self.stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            with name_failures(self.files[0]), self.stack:
                for stream in (self.lines, self.table) if error is None else ():
                    stream.flush()
                    os.fsync(stream.fileno())
        except OSError:
            # What a full disk did not take is tried once more when the files are closed.
            if error is None:
                raise

    def write(self, prediction: Prediction) -> None:
        """Appends one row to both files."""
        self.write_row(prediction.to_row(self.classes))

    def write_row(self, row: Row) -> None:
        """Appends a row as `Prediction.to_row` gives it."""
        self._append(
            json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n", to_csv_line(map(row.get, self.columns))
        )

    def _append(self, line: str, cells: str) -> None:
        for file, stream, text in zip(self.files, (self.lines, self.table), (line, cells), strict=True):
            with name_failures(file):
                stream.write(text)


def name_files(folder: Path, stem: str = NAME) -> tuple[Path, Path]:
    """The two files of a `PredictionWriter`."""
    return folder / f"{stem}.jsonl", folder / f"{stem}.csv"


def name_columns(classes: Sequence[str]) -> list[str]:
    """The columns of a row."""
    return [*HEAD, *(f"p_{name}" for name in classes), "model_digest", "time", "error"]


def read_rows(file: Path) -> Iterator[Row]:
    """The whole rows of a file of JSON lines; a last one that was cut off is left out.

    Raises:
        InputError: a line before the last is no row.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
                # Before weldnet looked for damage, there was no such column.
                row.setdefault("damaged", None)
                if not isinstance(row["path"], str) or not {*HEAD, "error"} <= set(row):
                    raise TypeError
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{file} row {number} is no prediction; name another output_dir, or remove the row"
                ) from error
            yield row


def gather_rows(folder: Path, classes: Sequence[str], again: Collection[str]) -> set[str]:
    """Makes one pair of files of all that earlier, interrupted processes left; a path stands once.

    Args:
        again: the paths that are tried again where their row says an error: it is dropped. Other such rows come last.

    Returns:
        The paths that are done.

    Raises:
        InputError, OSError: as `read_rows` and `PredictionWriter`.
    """
    done: set[str] = set()
    failed: dict[str, Row] = {}

    def rows() -> Iterator[Row]:
        for row in _read_all(folder):
            if row["error"] is not None:
                failed[row["path"]] = row
            elif row["path"] not in done:
                done.add(row["path"])
                yield row
        yield from (row for path, row in failed.items() if path not in done and path not in again)

    _replace(folder, classes, rows())
    return done


def merge_parts(folder: Path, classes: Sequence[str]) -> None:
    """Appends the rows of all processes' parts to the files, in the order of the source, and removes the parts.

    Until that is done the files are as they were.
    """
    _replace(folder, classes, _read_all(folder))


def _read_all(folder: Path) -> Iterator[Row]:
    own = folder / f"{NAME}.jsonl"
    if own.exists():
        yield from read_rows(own)
    yield from _take_turns(_parts(folder))


def _parts(folder: Path) -> list[Path]:
    ranks = {file.stem.removeprefix(PART): file for file in folder.glob(f"{PART}*.jsonl")}
    return [ranks[rank] for rank in sorted(filter(str.isdecimal, ranks), key=int)]


def _take_turns(parts: Iterable[Path]) -> Iterator[Row]:
    """Process r has every n-th image, from the r-th on."""
    for turn in zip_longest(*map(read_rows, parts)):
        yield from (row for row in turn if row is not None)


def _replace(folder: Path, classes: Sequence[str], rows: Iterable[Row]) -> None:
    """Writes both files anew, all or nothing, and removes the parts."""
    parts = _parts(folder)
    lines, table = name_files(folder)
    # The one that is read again is replaced last.
    with (
        replace_file(lines) as new_lines,
        replace_file(table) as new_table,
        PredictionWriter((new_lines, new_table), classes) as writer,
    ):
        for row in rows:
            writer.write_row(row)
    for part in parts:
        part.unlink()
        part.with_suffix(".csv").unlink(missing_ok=True)
