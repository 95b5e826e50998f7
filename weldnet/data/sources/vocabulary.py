"""Class names in the words of ISO 6520-1. Names and numbers only: quality levels are ISO 5817's, and an inspector's."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from weldnet.errors import InputError, list_some, shorten
from weldnet.spelling import tidy

COLUMNS = ("label", "iso_6520_1", "name")

Vocabulary = Mapping[str, str]
"""The number and name of a class in the standard, by its name without case, spaces, underscores and hyphens."""

_ENTRIES = {
    "100": "crack",
    "101": "longitudinal crack",
    "102": "transverse crack",
    "104": "crater crack",
    "2011": "gas pore",
    "2013": "clustered porosity",
    "2014": "linear porosity",
    "2015": "elongated cavity",
    "2016": "worm-hole",
    "2017": "surface pore",
    "301": "slag inclusion",
    "303": "oxide inclusion",
    "304": "metallic inclusion",
    "401": "lack of fusion",
    "402": "lack of penetration",
    "4021": "incomplete root penetration",
    "501": "undercut",
    "502": "excess weld metal",
    "503": "excessive convexity",
    "504": "excess penetration",
    "506": "overlap",
    "507": "linear misalignment",
    "510": "burn-through",
    "511": "incompletely filled groove",
    "515": "root concavity",
    "601": "stray arc",
    "602": "spatter",
}


def _fold(label: str) -> str:
    """One spelling for `Surface Pore`, `surface_pore` and `surface-pore`."""
    return re.sub(r"[\s_-]+", "", tidy(label)).casefold()


def _describe(number: str, name: str) -> str:
    return f"ISO 6520-1 no. {number}, {name}"


BUILT_IN: Vocabulary = {_fold(name): _describe(number, name) for number, name in _ENTRIES.items()}
"""The synthetic classes and the main entries of the standard, each under its own name."""


def describe_classes(classes: Iterable[str], vocabulary: Vocabulary = BUILT_IN) -> dict[str, str]:
    """The numbers and names of those classes that have them; a sound weld has none.

    Example:
        >>> describe_classes(["Surface_Pore", "good"])
        {'Surface_Pore': 'ISO 6520-1 no. 2017, surface pore'}
    """
    return {name: vocabulary[_fold(name)] for name in classes if _fold(name) in vocabulary}


def read_vocabulary(file: str | Path) -> Vocabulary:
    """`BUILT_IN` with the rows of a CSV (label, iso_6520_1, name) added; where both name a class, the file counts.

    Raises:
        InputError: no such file, a column is missing, or a row (the header being row 1) has an empty field, a number
            that is none, or a label of a different row.
    """
    file = Path(file)
    table = _read_columns(file)
    _refuse_rows(
        file,
        table,
        pl.any_horizontal(pl.col(COLUMNS).is_null()),
        "a field is empty; leave out classes without a number, such as sound welds",
    )
    digits = pl.col("iso_6520_1").str.contains(r"^[1-6][0-9]{2,3}$")
    _refuse_rows(file, table, ~digits, "iso_6520_1 is no number of the standard: 3 or 4 digits, the first 1 to 6")
    folded = pl.col("label").map_elements(_fold, pl.String)
    _refuse_rows(file, table, folded.is_duplicated(), "one class in more than one row; keep one of them")
    rows = table.select(COLUMNS).iter_rows()
    return {**BUILT_IN, **{_fold(label): _describe(number, name) for label, number, name in rows}}


def _read_columns(file: Path) -> pl.DataFrame:
    """`COLUMNS` as text, trimmed, null where empty, and `row`, the header being row 1; empty rows are left out."""
    if not file.is_file():
        raise InputError(
            f"no vocabulary at {file} (evaluation.vocabulary); name a CSV with the columns {','.join(COLUMNS)}"
        )
    try:
        table = pl.read_csv(file, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{file} cannot be read as CSV: {str(error).splitlines()[0]}; save it as UTF-8, separated by commas, names "
            "with commas in double quotes"
        ) from error
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(
            f"{file} has no column {' and no column '.join(missing)}; its columns are {shorten(table.columns)}; needed "
            f"are {','.join(COLUMNS)}, separated by commas"
        )
    trimmed = table.select(pl.col(COLUMNS).str.strip_chars().replace("", None)).with_row_index("row", offset=2)
    return trimmed.filter(~pl.all_horizontal(pl.col(COLUMNS).is_null()))


def _refuse_rows(file: Path, table: pl.DataFrame, fault: pl.Expr, what: str) -> None:
    rows = table.filter(fault)
    if not rows.is_empty():
        shown = [
            f"row {row}: label={label} iso_6520_1={number} name={name}" for row, label, number, name in rows.iter_rows()
        ]
        raise InputError(f"{file}: {what}:\n{list_some(shown)}")
