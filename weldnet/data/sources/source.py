"""The sources of weld images: a folder, a manifest, drawn; importing them costs nothing."""

import os
import re
from dataclasses import dataclass, field
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
        """Finds the images; none is opened. Drawn ones follow from the seed, and are kept in the folder `cache`.

        An InputError where there are none, or they are ambiguous.
        """


@dataclass
class Grouping:
    """How a source finds the weld that a photograph shows; all None leaves it to the source.

    Attributes:
        group_pattern: regular expression that is searched in each file's name; its first group, or the whole match,
            names the weld.
        groups: `per_image`, as in `group_by`.
        group_by: `folder`: the folder below that of the class; `prefix:N`: the first N parts of the file's name, which
            end where neither letter nor digit stands; `pattern`: by `group_pattern`; `column`: the manifest's column
            `group`; `per_image`: every image shows a different weld.
    """

    group_pattern: str | None = None
    groups: str | None = None
    group_by: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.groups is not None:
            check_choice("data.groups", self.groups, ("per_image",))
        self._find_way()

    def _find_way(self) -> str | None:
        """The way to group, whichever key names it."""
        way, ways = self.group_by, ("folder", "prefix:N", "pattern", "column", "per_image")
        if way is not None and not re.fullmatch(r"prefix:[1-9]\d?", way):
            check_choice("data.group_by", way, ways)
            if way == "prefix:N":
                raise InputError("data.group_by=prefix:N: N is a number, as in prefix:1")
        if way == "pattern" and self.group_pattern is None:
            raise InputError("data.group_by=pattern needs data.group_pattern='REGEX'")
        given = {f"data.group_by={way}": way, "data.group_pattern": self.group_pattern and "pattern"}
        given |= {f"data.groups={self.groups}": self.groups}
        typed = {key: each for key, each in given.items() if each}
        if len(set(typed.values())) > 1:
            raise InputError(f"{' and '.join(typed)} exclude each other; give one of them")
        return next(iter(typed.values()), None)

    def add_groups(self, table: "pl.DataFrame", origin: Path) -> "pl.DataFrame":
        """Fills the column `group` of a table of samples that `origin`, a folder or file, gave.

        An InputError where it has groups already, or none where they were asked for, where the pattern is no regular
        expression, or where the group of an image is not found.
        """
        from weldnet.data.sources.groups import by_folder, by_pattern, by_prefix, find_groups, per_image

        way = self._find_way()
        has_groups = table["group"].null_count() < len(table)
        if way == "column" and not has_groups:
            raise InputError(f"data.group_by=column: {origin} has no column group")
        if way in (None, "column"):
            return table
        if has_groups:
            raise InputError(
                f"{origin} has a group column already; leave the column out, or data.group_by, data.groups and "
                "data.group_pattern"
            )
        if way == "per_image":
            return per_image(table)
        if way == "pattern":
            return find_groups(table, f"data.group_pattern={self.group_pattern}", by_pattern(str(self.group_pattern)))
        find = by_folder if way == "folder" else by_prefix(int(str(way).partition(":")[2]))
        return find_groups(table, f"data.group_by={way}", find)


@dataclass
class Folder(Grouping):
    """The folder `root` of classes, or of splits of classes."""

    root: str | None = None

    def find(self, seed: int, cache: Path) -> "Found":
        """See `weldnet.data.sources.folders.scan_folder`."""
        from weldnet.data.sources.folders import scan_folder
        from weldnet.data.sources.found import Found, Skipped

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
    """Drawn welds, which need no download: `num_images` in all, of `num_seams`, each of which shows every class."""

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
