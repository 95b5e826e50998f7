"""predictions.jsonl and predictions.csv: written row by row, gone on with after an interruption, merged from parts.

The JSON lines are the record; the CSV says the same for people's tables.
"""

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any

from weldnet.errors import InputError
from weldnet.predictor import Prediction

NAME = "predictions"

PART = f"{NAME}.rank"
"""The stem of what one of several processes writes, before its number."""

COLUMNS = ("path", "sha256", "predicted", "verdict", "unlike_training")

Row = dict[str, Any]


class PredictionWriter:
    """Appends predictions to `<stem>.jsonl` and `<stem>.csv`, each row at once.

    Args:
        folder: an existing folder.
        classes: C names.
        stem: of the two files.

    Raises:
        InputError: on entering or writing: they cannot be written; the rows before are kept.
    """

    def __init__(self, folder: Path, classes: Sequence[str], stem: str = NAME) -> None:
        self.files = [folder / f"{stem}.{ending}" for ending in ("jsonl", "csv")]
        self.columns = name_columns(classes)
        self.classes, self.stack = classes, ExitStack()

    def __enter__(self) -> "PredictionWriter":
        try:
            # Line by line, so that a killed run loses no more than the row it was at.
            self.lines, self.table = (
                self.stack.enter_context(file.open("a", buffering=1, encoding="utf-8", newline=""))
                for file in self.files
            )
            self.writer = csv.DictWriter(self.table, self.columns, lineterminator="\n")
            if not self.table.tell():
                self.writer.writeheader()
        except OSError as error:
            with suppress(OSError):
                self.stack.close()
            raise self._refuse(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.stack.close()
        except OSError as failure:
            # What a full disk did not take is tried once more here.
            if error is None:
                raise self._refuse(failure) from failure

    def write(self, prediction: Prediction) -> None:
        """Appends one row to both files."""
        self.write_row(prediction.to_row(self.classes))

    def write_row(self, row: Row) -> None:
        """Appends a row as `Prediction.to_row` gives it."""
        try:
            self.lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            self.writer.writerow({name: _show(value) for name, value in row.items()})
        except OSError as error:
            raise self._refuse(error) from error

    def _refuse(self, error: OSError) -> InputError:
        return InputError(
            f"{self.files[0]} cannot be written ({error.strerror}); make room, then go on by resume=true and the same "
            "output_dir"
        )


def name_columns(classes: Sequence[str]) -> list[str]:
    """The columns of a row."""
    return [*COLUMNS, *(f"p_{name}" for name in classes), "model_digest", "time", "error"]


def _show(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


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
                if not isinstance(row["path"], str) or not {*COLUMNS, "error"} <= set(row):
                    raise TypeError
            except (ValueError, KeyError, TypeError) as error:
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
        InputError: as `read_rows` and `PredictionWriter`.
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
    temporary = f".{NAME}.tmp"
    for file in folder.glob(f"{temporary}.*"):
        file.unlink()
    with PredictionWriter(folder, classes, temporary) as writer:
        for row in rows:
            writer.write_row(row)
    parts = _parts(folder)
    for ending in ("csv", "jsonl"):
        (folder / f"{temporary}.{ending}").replace(folder / f"{NAME}.{ending}")
    for part in parts:
        part.unlink()
        part.with_suffix(".csv").unlink(missing_ok=True)
