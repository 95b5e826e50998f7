"""One spelling for the name of a class, a group or a split, wherever it is read or typed."""

import re
import unicodedata
from collections.abc import Iterable

import polars as pl

_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
"""Soft hyphens, blanks without width, marks of direction and of byte order: nobody sees that they are there."""


def tidy(name: str) -> str:
    """A name as weldnet keeps it: letters composed (NFC), nothing invisible, single blanks, none at its ends.

    Example:
        >>> tidy(" La\u0308ngsriss\u200b ") == "L\u00e4ngsriss"
        True
    """
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", name)).split())


def tidy_all(names: pl.Series) -> pl.Series:
    """The names (N,) as `tidy` has them; null where nothing is left."""
    return pl.Series(names.name, [None if name is None else tidy(name) or None for name in names], pl.String)


def fold(name: str) -> str:
    """What stays of a name when neither case nor blanks nor the width of a letter count."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tidy(name)).casefold()))


def find_alike(names: Iterable[str]) -> list[list[str]]:
    """Those of some names that differ from one another by case and blanks only, sorted, a list for each such set."""
    sets: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        sets.setdefault(fold(name), []).append(name)
    return [alike for alike in sets.values() if len(alike) > 1]
