"""Class names in the words of ISO 6520-1. Names and numbers only: quality levels are ISO 5817's, and an inspector's."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from weldnet.data.sources.manifest import read_typed, refuse_rows
from weldnet.errors import InputError
from weldnet.spelling import fold

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
    return fold(re.sub("[_-]", "", label))


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

    An InputError where there is no such file, a column is missing, or a row has an empty field, a number that is none,
    or a label of a different row.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(
            f"no vocabulary at {file} (evaluation.vocabulary); name a CSV with the columns {','.join(COLUMNS)}"
        )
    table = read_typed(file, COLUMNS, needed=COLUMNS)
    table = table.with_columns(pl.col(COLUMNS).str.strip_chars().replace("", None))
    table = table.filter(~pl.all_horizontal(pl.col(COLUMNS).is_null()))
    refuse_rows(
        file,
        table,
        pl.any_horizontal(pl.col(COLUMNS).is_null()),
        "a field is empty; leave out classes without a number, such as sound welds",
    )
    digits = pl.col("iso_6520_1").str.contains(r"^[1-6][0-9]{2,3}$")
    refuse_rows(file, table, ~digits, "iso_6520_1 is no number of the standard: 3 or 4 digits, the first 1 to 6")
    folded = pl.col("label").map_elements(_fold, pl.String)
    refuse_rows(file, table, folded.is_duplicated(), "one class in more than one row; keep one of them")
    rows = table.select(COLUMNS).iter_rows()
    return {**BUILT_IN, **{_fold(label): _describe(number, name) for label, number, name in rows}}
