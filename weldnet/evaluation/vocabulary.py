"""Class names in the words of ISO 6520-1. Names and numbers only: quality levels are ISO 5817's, and an inspector's."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from weldnet.errors import InputError, list_some, shorten
from weldnet.spelling import tidy

COLUMNS = ("label", "iso_6520_1", "name")


class Imperfection(NamedTuple):
    """An entry of ISO 6520-1: its number, 3 or 4 digits as text, and its English name."""

    number: str
    name: str


_BUILT_IN = (
    Imperfection("100", "crack"),
    Imperfection("101", "longitudinal crack"),
    Imperfection("102", "transverse crack"),
    Imperfection("104", "crater crack"),
    Imperfection("2011", "gas pore"),
    Imperfection("2013", "clustered porosity"),
    Imperfection("2014", "linear porosity"),
    Imperfection("2015", "elongated cavity"),
    Imperfection("2016", "worm-hole"),
    Imperfection("2017", "surface pore"),
    Imperfection("301", "slag inclusion"),
    Imperfection("303", "oxide inclusion"),
    Imperfection("304", "metallic inclusion"),
    Imperfection("401", "lack of fusion"),
    Imperfection("402", "lack of penetration"),
    Imperfection("4021", "incomplete root penetration"),
    Imperfection("501", "undercut"),
    Imperfection("502", "excess weld metal"),
    Imperfection("503", "excessive convexity"),
    Imperfection("504", "excess penetration"),
    Imperfection("506", "overlap"),
    Imperfection("507", "linear misalignment"),
    Imperfection("510", "burn-through"),
    Imperfection("511", "incompletely filled groove"),
    Imperfection("515", "root concavity"),
    Imperfection("601", "stray arc"),
    Imperfection("602", "spatter"),
)


def _fold(label: str) -> str:
    """One spelling for `Surface Pore`, `surface_pore` and `surface-pore`."""
    return re.sub(r"[\s_-]+", "", tidy(label)).casefold()


@dataclass(frozen=True)
class Vocabulary:
    """Class name -> entry of ISO 6520-1; case, spaces, underscores and hyphens in class names do not count.

    Attributes:
        imperfections: by class name, in any spelling. Classes without a number, such as a sound weld, are not in it.

    Example:
        >>> BUILT_IN.describe("Surface_Pore")
        'ISO 6520-1 no. 2017, surface pore'
    """

    imperfections: Mapping[str, Imperfection]

    def __post_init__(self) -> None:
        folded = {_fold(label): imperfection for label, imperfection in self.imperfections.items()}
        object.__setattr__(self, "imperfections", folded)

    def find(self, label: str) -> Imperfection | None:
        """The entry of a class; None for a sound weld and for a class that is not in the vocabulary."""
        return self.imperfections.get(_fold(label))

    def of(self, labels: Iterable[str]) -> dict[str, str]:
        """`describe` of those classes that have an entry."""
        return {label: text for label in labels if (text := self.describe(label))}

    def describe(self, label: str) -> str | None:
        """`ISO 6520-1 no. 2017, surface pore`, or None, as for `find`."""
        imperfection = self.find(label)
        return f"ISO 6520-1 no. {imperfection.number}, {imperfection.name}" if imperfection else None


BUILT_IN = Vocabulary({imperfection.name: imperfection for imperfection in _BUILT_IN})
"""The synthetic classes and the main entries of the standard, each under its own name."""


def read_vocabulary(file: str | Path) -> Vocabulary:
    """Reads a CSV with the columns label, iso_6520_1 and name, and adds it to `BUILT_IN`; where both speak, the file.

    Raises:
        InputError: no such file, a column is missing, or a row (the header being row 1) has an empty field, a number
            that is none, or a label of another row.
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
    return Vocabulary({**BUILT_IN.imperfections, **{_fold(label): Imperfection(*entry) for label, *entry in rows}})


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
