"""One spelling for the name of a class, a group or a split, wherever it is read or typed."""

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def fold(name: str) -> str:
    """What stays of a name when neither case nor blanks nor the width of a letter count."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tidy(name)).casefold()))


def tidy_all(names: "pl.Series") -> "pl.Series":
    """The names (N,) as `tidy` has them; null where nothing is left."""
    distinct = names.drop_nulls().unique()
    return names.replace(distinct, distinct.map_elements(tidy, return_dtype=names.dtype).replace("", None))


def find_alike(names: "pl.Series") -> list[list[str]]:
    """Those of some names that differ from one another by case and blanks only, sorted, a list for each such set."""
    distinct = names.drop_nulls().unique().sort().rename("name")
    folded = distinct.map_elements(fold, return_dtype=distinct.dtype)
    alike = distinct.to_frame().with_columns(folded=folded).filter(folded.is_duplicated())
    return alike.group_by("folded", maintain_order=True).agg("name")["name"].to_list()


def make_visible(text: str) -> str:
    """The text with what a terminal would obey or hide (control characters, changes of direction) written out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
