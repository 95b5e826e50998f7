"""Which weld a photograph shows, by its name or folder; and what the names offer, where it is not given."""

import os
import re
import shlex
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
    """The table of samples with its groups, or an InputError, which names the `key`, where some image has none."""
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
        stem = os.path.splitext(_name(path))[0]
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

    Left out is what divides nothing, what divides as the level above it, and what is the class. Where all names begin
    with the class, the levels after it are offered: with it, a weld of two classes would be two.
    """
    rows, labels = list(table.select("path", "label").iter_rows()), table["label"].unique().sort().to_list()
    ways: dict[str, Find] = {"data.group_by=folder": by_folder}
    patterns = [_after_class(labels, number) for number in range(1, MOST_LEVELS + 1)]
    if all(map(by_pattern(patterns[0]), *zip(*rows, strict=True))):
        ways |= {shlex.quote(f"data.group_pattern={pattern}"): by_pattern(pattern) for pattern in patterns}
    else:
        ways |= {f"data.group_by=prefix:{number}": by_prefix(number) for number in range(1, MOST_LEVELS + 1)}
    offers: list[Offer] = []
    divisions = [(len(labels), table["label"].to_list())]
    for key, find in ways.items():
        found = [find(*row) or "" for row in rows]
        spelled = {group: tidy(group) for group in set(found)}
        groups = [spelled[group] for group in found]
        counts = Counter(groups)
        is_new = not any(
            number == len(counts) == len(set(zip(groups, other, strict=True))) for number, other in divisions
        )
        if len(counts) > 1 and "" not in counts and is_new:
            divisions.append((len(counts), groups))
            offers.append(Offer(key, len(counts), len(rows), sorted(counts)))
    return sorted(offers, key=lambda offer: (offer.is_doubtful, offer.num_groups))


def _after_class(labels: Sequence[str], num_parts: int) -> str:
    """A pattern of the first parts of a name after that of its class."""
    names = [r"[\W_]+".join(PART.findall(label)) for label in labels]
    longest_first = "|".join(sorted(names, key=len, reverse=True))
    further = f"(?:[\\W_]+[^\\W_]+){{{num_parts - 1}}}" if num_parts > 1 else ""
    return rf"(?i)^[\W_]*(?:{longest_first})[\W_]+([^\W_]+{further})"


def knows_groups(table: pl.DataFrame) -> bool:
    """Whether every image has a group, and some group has several images."""
    return not table["group"].null_count() and table["group"].n_unique() < len(table)


def explain_groups(table: pl.DataFrame, *, even_per_image: bool = True) -> str:
    """What to do where groups are unknown; with what the names offer, unless the source has some."""
    if 0 < table["group"].null_count() < len(table):
        return "Give every row of the manifest its group, or leave the column out"
    offers = offer_groups(table)
    listed = f"By their names, these could be the welds:\n{list_some([str(offer) for offer in offers])}\n"
    others: Sequence[str] = (
        "data.group_pattern='REGEX', found in the file names",
        "a group column in a manifest",
        *(["data.group_by=per_image, if every photograph shows a different weld"] if even_per_image else []),
    )
    return f"{f'{listed}Type the one that names a weld, or ' if offers else 'Type one of: '}{'; '.join(others)}"


def per_image(table: pl.DataFrame) -> pl.DataFrame:
    """The table with every image as a weld of its own."""
    return table.with_columns(group=tidy_all(table["path"]))
