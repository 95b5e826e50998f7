"""What a source of weld images is: it finds photographs, their labels and, where it can, their welds and splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from weldnet.errors import InputError, check_choice

if TYPE_CHECKING:
    import polars as pl

    from weldnet.data.sources.found import Found


@runtime_checkable
class Source(Protocol):
    """A dataclass of settings that finds images."""

    def find(self, seed: int, cache: Path) -> "Found":
        """Finds the images; none is opened.

        Args:
            seed: of what is drawn.
            cache: the folder in which drawn images are kept.

        Raises:
            InputError: there are none, or it cannot be told which.
        """


@dataclass
class Grouping:
    """How a source tells which weld a photograph shows.

    Attributes:
        group_pattern: regular expression that finds the group in a file's name.
        groups: `per_image`: every image shows a different weld; None leaves it to the source or the pattern.

    Raises:
        InputError: the two exclude each other.
    """

    group_pattern: str | None = None
    groups: str | None = None

    def __post_init__(self) -> None:
        if self.groups is not None:
            check_choice("data.groups", self.groups, ("per_image",))
        if self.groups and self.group_pattern:
            raise InputError("data.groups=per_image and data.group_pattern exclude each other; give one of them")

    def add_groups(self, table: "pl.DataFrame", origin: Path) -> "pl.DataFrame":
        """Fills the groups of a table of samples.

        Args:
            table: of `SCHEMA`.
            origin: the folder or file that it was read from, for the message.

        Raises:
            InputError: the table has groups already; see `manifest.add_groups`.
        """
        from weldnet.data.sources.manifest import add_groups

        if (self.groups or self.group_pattern) and table["group"].null_count() < len(table):
            raise InputError(
                f"{origin} has a group column already; leave the column out, or data.groups and data.group_pattern"
            )
        return add_groups(table, pattern=self.group_pattern, per_image=self.groups is not None)
