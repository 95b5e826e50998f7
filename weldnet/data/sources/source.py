"""The sources of weld images: a folder, a manifest, drawn; importing them costs nothing."""

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from weldnet.errors import InputError, check_choice, list_some

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
            InputError: there are none, or they are ambiguous.
        """


@dataclass
class Grouping:
    """How a source finds the weld that a photograph shows.

    Attributes:
        group_pattern: regular expression that is searched in each file's name; its first group, or the whole match,
            names the weld.
        groups: `per_image`: every image shows a different weld; None leaves it to the source or the pattern.
    """

    group_pattern: str | None = None
    groups: str | None = None

    def __post_init__(self) -> None:
        if self.groups is not None:
            check_choice("data.groups", self.groups, ("per_image",))
        if self.groups and self.group_pattern:
            raise InputError("data.groups=per_image and data.group_pattern exclude each other; give one of them")

    def add_groups(self, table: "pl.DataFrame", origin: Path) -> "pl.DataFrame":
        """Fills the column `group` of a table of samples that `origin`, a folder or file, gave.

        Raises:
            InputError: it has groups already; the pattern is no regular expression, or not in every file's name.
        """
        import polars as pl

        from weldnet.spelling import tidy, tidy_all

        pattern = self.group_pattern
        if not (pattern or self.groups):
            return table
        if table["group"].null_count() < len(table):
            raise InputError(
                f"{origin} has a group column already; leave the column out, or data.groups and data.group_pattern"
            )
        if not pattern:
            return table.with_columns(group=tidy_all(table["path"]))
        try:
            expression = re.compile(unicodedata.normalize("NFC", pattern))
        except re.error as error:
            raise InputError(f"data.group_pattern={pattern} is not a regular expression: {error}") from error
        # macOS decomposes names, which then would not match what is typed.
        names = [unicodedata.normalize("NFC", os.path.basename(path)) for path in table["path"]]
        matches = [expression.search(name) for name in names]
        groups = [match and tidy(match.group(1 if expression.groups else 0) or "") for match in matches]
        # An empty group would make one weld of all its files.
        if unmatched := [path for path, group in zip(table["path"], groups, strict=True) if not group]:
            raise InputError(
                f"data.group_pattern={pattern} is not found in {len(unmatched)} of {len(table)} file names:\n"
                f"{list_some(unmatched)}"
            )
        return table.with_columns(group=pl.Series(groups, dtype=pl.String))


@dataclass
class Folder(Grouping):
    """The folder `root` of classes, or of splits of classes."""

    root: str | None = None

    def find(self, seed: int, cache: Path) -> "Found":
        """See `weldnet.data.sources.folders.scan_folder`."""
        from weldnet.data.sources.discovery import Skipped
        from weldnet.data.sources.folders import scan_folder
        from weldnet.data.sources.found import Found

        if self.root is None:
            raise InputError("data=folder needs data.root=DIR")
        root, skipped = Path(os.path.abspath(self.root)), Skipped()
        return Found(self.add_groups(scan_folder(root, skipped), root), root, root, skipped=skipped)


@dataclass
class Manifest(Grouping):
    """The photographs of a table, the CSV file `manifest`."""

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
        """Draws the set unless it exists; see `weldnet.synthetic.drawn_set.write_synthetic`."""
        from weldnet.data.sources.found import Found
        from weldnet.data.sources.manifest import read_manifest
        from weldnet.synthetic.drawn_set import DRAWING_VERSION, write_synthetic

        name = f"drawing_{DRAWING_VERSION}_{self.num_images}_images_{self.num_seams}_seams_seed_{seed}"
        folder = cache / "synthetic" / name
        return Found(
            read_manifest(write_synthetic(folder, num_images=self.num_images, num_seams=self.num_seams, seed=seed))
        )


@dataclass
class SourceKeys(Synthetic, Manifest, Folder):
    """The keys of every source, side by side: a new source is one more base."""


PATHS = ("root", "manifest")
"""The keys that are paths: taken as typed, saved in full, and changed on resume where the files have moved."""
