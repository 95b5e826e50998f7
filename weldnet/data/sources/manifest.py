"""Tables that a user has typed, whose faults are reported by row: the images, in a manifest, and others."""

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from weldnet.data.sources.names import name_splits
from weldnet.errors import InputError, first_line, list_some, shorten
from weldnet.files import write_csv
from weldnet.spelling import tidy_all

_HEADER = 65536

SPLITS = ("train", "val", "test")
SCHEMA = {"path": pl.String, "label": pl.String, "group": pl.String, "split": pl.String}
"""The columns of every table of samples. `group` and `split` are null where they are unknown."""


def read_typed(file: Path, columns: Sequence[str], needed: Sequence[str], also: str = "") -> pl.DataFrame:
    """The columns of a CSV as text, null where they lack, and `row`, the header being row 1; commas or semicolons.

    `columns` are in small letters; further ones are ignored. Those `needed` may not lack; the message adds `also`.
    """
    with file.open("rb") as start:
        head = start.readline(_HEADER)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{file} is UTF-16; save it as UTF-8 (Excel: CSV UTF-8)")
    # What Excel writes where a comma is the decimal point.
    separator = ";" if b";" in head and b"," not in head else ","
    try:
        header = pl.read_csv(file, infer_schema=False, n_rows=0, separator=separator).columns
        known = {name: name.strip().lower() for name in header if name.strip().lower() in columns}
        table = pl.read_csv(file, infer_schema=False, columns=list(known) or None, separator=separator)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{file} cannot be read as CSV: {first_line(error)}; save it as UTF-8, separated by commas, names "
            "with commas in double quotes"
        ) from error
    # Polars renames a column of the same name: path_duplicated_0.
    names = [re.sub(r"_duplicated_\d+$", "", name.strip().lower()) for name in header]
    twice = [name for name, column in zip(header, names, strict=True) if column in columns and names.count(column) > 1]
    if twice:
        raise InputError(f"{file} has one column more than once: {', '.join(sorted(twice))}; keep one of them")
    table = table.rename(known)
    if missing := [name for name in needed if name not in table.columns]:
        raise InputError(
            f"{file} has no column {' and no column '.join(missing)}; its columns are {shorten(header)}; "
            f"needed are {','.join(needed)}{also}, separated by commas"
        )
    absent = [pl.lit(None, pl.String).alias(name) for name in columns if name not in table.columns]
    return table.with_columns(absent).select(columns).with_row_index("row", offset=2)


def refuse_rows(file: Path, table: pl.DataFrame, fault: pl.Expr, reason: str) -> None:
    """Refuses rows with a fault; the message lists them with all columns of the table."""
    rows = table.filter(fault)
    if not rows.is_empty():
        names = rows.drop("row").columns
        shown = [
            f"row {row}: {' '.join(f'{name}={value}' for name, value in zip(names, values, strict=True))}"
            for row, *values in rows.iter_rows()
        ]
        raise InputError(f"{file}: {reason}:\n{list_some(shown)}")


def read_manifest(file: str | Path) -> pl.DataFrame:
    """Reads `path,label[,group][,split]` as a table of `SCHEMA`, absolute paths, in the file's order.

    Relative paths start at the manifest's folder and may not leave it; absolute paths may name any file. Whether the
    files exist is checked when they are read. Further columns are ignored.

    Raises:
        InputError: no such file, a column is missing, or a row (the header being row 1) has no path or label, an
            unknown split, or leaves the folder.
    """
    return read_rows(file).drop("row")


def read_labels(file: str | Path) -> dict[str, str | None]:
    """The absolute paths of a manifest, each with its label, None where it has none; refuses as `read_manifest` does.

    Of the other columns, none is needed, and none refused.
    """
    file = Path(os.path.abspath(file))
    table = _read_table(file, needed=("path",))
    refuse_rows(file, table, pl.col("path").is_null(), "path is empty")
    return dict(_resolve_paths(file, table).select("path", "label").iter_rows())


def read_rows(file: str | Path) -> pl.DataFrame:
    """The table of `read_manifest` with the column `row`."""
    file = Path(os.path.abspath(file))
    if not file.is_file():
        hint = "that is a folder: data=folder data.root=DIR" if file.is_dir() else "data.manifest=FILE.csv"
        raise InputError(f"no manifest at {file}; {hint}")
    table = _read_table(file, needed=("path", "label"))
    refuse_rows(file, table, pl.any_horizontal(pl.col("path", "label").is_null()), "path or label is empty")
    refuse_rows(file, table, ~pl.col("split").is_in(SPLITS), f"split is none of {', '.join(SPLITS)}")
    for name in ("split", "group"):
        if table[name].null_count() < len(table):
            refuse_rows(file, table, pl.col(name).is_null(), f"{name} is empty, while other rows have one")
    return _resolve_paths(file, table)


def _read_table(file: Path, needed: Sequence[str]) -> pl.DataFrame:
    """The rows that are not empty, trimmed, with `row`, and `split` under the names of `SPLITS`."""
    table = read_typed(file, list(SCHEMA), needed, " and, where known, group,split" if "label" in needed else "")
    tidied = [tidy_all(table[name]) for name in ("label", "group", "split")]
    table = table.with_columns(_trim_paths(file, table["path"]), *tidied)
    splits = name_splits(table["split"].drop_nulls().unique(), file)
    table = table.with_columns(pl.col("split").replace(splits))
    table = table.filter(~pl.all_horizontal(pl.col(list(SCHEMA)).is_null()))
    if table.is_empty():
        raise InputError(f"{file} has no rows")
    return table


def _trim_paths(file: Path, paths: pl.Series) -> pl.Series:
    """The paths as the files are spelled: with or without blanks at their ends, composed or decomposed."""
    trimmed = paths.str.strip_chars().replace("", None)
    changed = ((paths != trimmed) | (paths.str.contains(r"[^\x00-\x7F]") & trimmed.is_not_null())).fill_null(False)
    real = [_find_spelling(file.parent, path) for path in paths.filter(changed)]
    return trimmed.scatter(changed.arg_true(), pl.Series(real, dtype=pl.String))


def _find_spelling(folder: Path, path: str) -> str:
    trimmed = path.strip()
    spellings = (path, trimmed, *(unicodedata.normalize(form, trimmed) for form in ("NFC", "NFD")))
    return next((each for each in spellings if os.path.lexists(folder / each)), trimmed)


def _resolve_paths(file: Path, table: pl.DataFrame) -> pl.DataFrame:
    """The table with absolute paths, each once."""
    folder = os.path.join(file.parent, "")
    # Only absolute paths and those with dots need Python; a million rows do not wait for it.
    odd = table["path"].str.contains(r"(^|/)\.{0,2}(/|$)")
    full = [os.path.normpath(os.path.join(folder, path)) for path in table["path"].filter(odd)]
    paths = (folder + table["path"]).scatter(odd.arg_true(), pl.Series(full, dtype=pl.String))
    leaving = table.filter(~pl.col("path").str.starts_with("/") & ~paths.str.starts_with(folder))
    if not leaving.is_empty():
        shown = [f"row {row}: {path}" for row, path in leaving.select("row", "path").iter_rows()]
        raise InputError(
            f"{file}: a relative path may not leave the manifest's folder; move the manifest up, or write the "
            f"path in full:\n{list_some(shown)}"
        )
    table = table.with_columns(paths.alias("path"))
    refuse_rows(file, table, pl.col("path").is_duplicated(), "one file in more than one row; keep one of them")
    return table


def write_unreadable(reasons: Mapping[str, str], folder: Path) -> None:
    """Writes `unreadable.csv` with each skipped file and the reason, where there are any."""
    if reasons:
        write_csv(folder / "unreadable.csv", pl.DataFrame({"path": list(reasons), "reason": list(reasons.values())}))


def write_manifest(table: pl.DataFrame, file: Path) -> None:
    """Writes a table of samples as a manifest that `read_manifest` reads again, all or nothing."""
    write_csv(file, table.select(list(SCHEMA)))
