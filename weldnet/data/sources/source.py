"""Where weld images come from: a folder, a manifest, drawn; importing it costs nothing."""

import os
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


@dataclass
class Folder(Grouping):
    """A folder of classes, or of splits of classes.

    Attributes:
        root: the folder.
    """

    root: str | None = None

    def find(self, seed: int, cache: Path) -> "Found":
        """See `weldnet.data.sources.folders.scan_folder`."""
        from weldnet.data.sources.discovery import Skipped
        from weldnet.data.sources.folders import scan_folder
        from weldnet.data.sources.found import Found

        if self.root is None:
            raise InputError("data=folder needs data.root=DIR")
        root, skipped = Path(os.path.abspath(self.root)), Skipped()
        table = scan_folder(root, skipped)
        return Found(self.add_groups(table, root), root, root, skipped=skipped)


@dataclass
class Manifest(Grouping):
    """A table of photographs.

    Attributes:
        manifest: the CSV file.
    """

    manifest: str | None = None

    def find(self, seed: int, cache: Path) -> "Found":
        """See `weldnet.data.sources.manifest.read_manifest`."""
        from weldnet.data.sources.found import Found
        from weldnet.data.sources.manifest import read_rows

        if self.manifest is None:
            raise InputError("data=manifest needs data.manifest=FILE.csv")
        file = Path(os.path.abspath(self.manifest))
        table = read_rows(file)
        return Found(self.add_groups(table.drop("row"), file), file, file.parent, table["row"])


@dataclass
class Synthetic:
    """Drawn welds, which need no download.

    Attributes:
        num_images: photographs in all.
        num_seams: welds, each of which shows every class.
    """

    num_images: int = 1500
    num_seams: int = 50

    def find(self, seed: int, cache: Path) -> "Found":
        """Draws the set, unless it is there; see `weldnet.synthetic.drawn_set.write_synthetic`."""
        from weldnet.data.sources.found import Found
        from weldnet.data.sources.manifest import read_manifest
        from weldnet.synthetic.drawn_set import DRAWING_VERSION, write_synthetic

        name = f"drawing_{DRAWING_VERSION}_{self.num_images}_images_{self.num_seams}_seams_seed_{seed}"
        folder = cache / "synthetic" / name
        return Found(
            read_manifest(write_synthetic(folder, num_images=self.num_images, num_seams=self.num_seams, seed=seed))
        )
