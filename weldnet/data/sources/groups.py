"""Which weld a photograph shows, by its name or folder; and what the names offer, where nobody has said."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import polars as pl

from weldnet.errors import InputError, list_some, shorten
from weldnet.spelling import tidy, tidy_all

Find = Callable[[str, str], str | None]
"""From a path and its label to the group, or to None or nothing where it has none."""

PART = re.compile(r"[^\W_]+")
"""A part of a name: its letters and digits between other characters."""

FEW = 5
"""With fewer photographs a group, on average, it is doubtful that a group is a weld."""

MOST_LEVELS = 6


def find_groups(table: pl.DataFrame, key: str, find: Find) -> pl.DataFrame:
    """The table of samples with its groups, or an InputError where some image has none.

    Args:
        key: what was typed, for the message.
    """
    groups = [tidy(find(*row) or "") for row in table.select("path", "label").iter_rows()]
    # An empty group would make one weld of all its files.
    if unmatched := [path for path, group in zip(table["path"], groups, strict=True) if not group]:
        raise InputError(
            f"{key} is not found in {len(unmatched):,} of {len(table):,} file names:\n{list_some(unmatched, 3)}\n"
            f"{explain_groups(table)}"
        )
    return table.with_columns(group=pl.Series(groups, dtype=pl.String))


def by_pattern(pattern: str) -> Find:
    """The first group of a regular expression in the file's name, or the whole match."""
    try:
        expression = re.compile(unicodedata.normalize("NFC", pattern))
    except re.error as error:
        raise InputError(f"data.group_pattern={pattern} is not a regular expression: {error}") from error

    def find(path: str, _: str) -> str | None:
        match = expression.search(_name(path))
        return match and match.group(1 if expression.groups else 0)

    return find


def by_prefix(num_parts: int) -> Find:
    """The first parts of the file's name, with what stands between them."""

    def find(path: str, _: str) -> str | None:
        stem = _name(path).rpartition(".")[0]
        parts = list(islice(PART.finditer(stem), num_parts))
        return stem[parts[0].start() : parts[-1].end()] if len(parts) == num_parts else None

    return find


def by_folder(path: str, label: str) -> str | None:
    """The folder below that of the class; where no folder has the class's name, the one that holds the file."""
    folders = path.split(os.sep)[:-1]
    below = next((i for i in range(len(folders), 0, -1) if tidy(folders[i - 1]) == label), len(folders) - 1)
    return folders[below] if below < len(folders) else None


def _name(path: str) -> str:
    # macOS decomposes names, which then would not match what is typed.
    return unicodedata.normalize("NFC", os.path.basename(path))


class Offer(NamedTuple):
    """A way to group photographs: the key to type, the number of groups, and some of them."""

    key: str
    num_groups: int
    num_images: int
    groups: list[str]

    @property
    def is_doubtful(self) -> bool:
        return self.num_images < FEW * self.num_groups

    def __str__(self) -> str:
        doubt = "; probably one photograph, not one weld" if self.is_doubtful else ""
        mean = self.num_images / self.num_groups
        return (
            f"{self.key:<24} {self.num_groups:,} groups of {mean:,.{0 if mean >= 10 else 1}f} photographs each "
            f"({shorten(self.groups, 3 if self.is_doubtful else 6)}{doubt})"
        )


def offer_groups(table: pl.DataFrame) -> list[Offer]:
    """What the folders and the levels of the names offer, coarsest first; what is hardly a weld comes last.

    Left out is what divides nothing, what divides as the level above it, and what is the class.
    """
    rows, num_classes = list(table.select("path", "label").iter_rows()), table["label"].n_unique()
    ways: dict[str, Find] = {"data.group_by=folder": by_folder}
    ways |= {f"data.group_by=prefix:{number}": by_prefix(number) for number in range(1, MOST_LEVELS + 1)}
    offers: list[Offer] = []
    for key, find in ways.items():
        groups = [tidy(find(*row) or "") for row in rows]
        counts = Counter(groups)
        is_class = len(set(zip(groups, table["label"], strict=True))) == len(counts) == num_classes
        is_new = not any(offer.num_groups == len(counts) for offer in offers)
        if len(counts) > 1 and "" not in counts and is_new and not is_class:
            offers.append(Offer(key, len(counts), len(rows), sorted(counts)))
    return sorted(offers, key=lambda offer: (offer.is_doubtful, offer.num_groups))


def explain_groups(table: pl.DataFrame) -> str:
    """What to type where the groups are unknown, with what these names offer."""
    offers = offer_groups(table)
    listed = f"By their names, these could be the welds:\n{list_some([str(offer) for offer in offers])}\n"
    others: Sequence[str] = (
        "data.group_pattern='REGEX', found in the file names",
        "a group column in a manifest",
        "data.group_by=per_image, if every photograph shows a different weld",
    )
    return f"{f'{listed}Type the one that names a weld, or ' if offers else 'Type one of: '}{'; '.join(others)}"


def per_image(table: pl.DataFrame) -> pl.DataFrame:
    """The table with every image as a weld of its own."""
    return table.with_columns(group=tidy_all(table["path"]))
