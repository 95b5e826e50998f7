"""Tables that a user has typed: columns of a CSV, whose faults are reported by row."""

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from weldnet.errors import InputError, first_line, list_some, shorten

_HEADER = 65536


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
