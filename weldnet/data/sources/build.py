"""Where weld images come from: drawn, a folder, a manifest."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from weldnet.data.sources.class_names import Misnamed, find_misnamed
from weldnet.data.sources.discovery import Skipped
from weldnet.data.sources.folders import scan_folder
from weldnet.data.sources.manifest import add_groups, find_rows, read_manifest
from weldnet.errors import InputError, check_choice, list_some
from weldnet.synthetic.drawn_set import DRAWING_VERSION, write_synthetic

SOURCES = ("synthetic", "folder", "manifest")


@dataclass(frozen=True)
class Source:
    """A source of weld images with their labels.

    Attributes:
        kind: `synthetic`, `folder` or `manifest`.
        root: the folder, for `folder`.
        manifest: the CSV file, for `manifest`.
        group_pattern: regular expression that finds the group in a file's name.
        groups: `per_image` says that every image shows another weld; None leaves it to the manifest or the pattern.
        num_images, num_seams, seed: of the synthetic set.
        cache: the folder in which drawn images are kept.
        skipped: what `find` passed over.

    Raises:
        InputError: a value outside of what is allowed, or two that exclude each other.
    """

    kind: str
    root: str | Path | None
    manifest: str | Path | None
    group_pattern: str | None
    groups: str | None
    num_images: int
    num_seams: int
    seed: int
    cache: Path
    skipped: Skipped = field(default_factory=Skipped, compare=False)

    def __post_init__(self) -> None:
        check_choice("data.source", self.kind, SOURCES)
        if self.groups is not None:
            check_choice("data.groups", self.groups, ("per_image",))
        if self.groups and self.group_pattern:
            raise InputError("data.groups=per_image and data.group_pattern exclude each other; give one of them")

    def find(self) -> pl.DataFrame:
        """The table of samples: groups filled where they are known, splits as the source has them; no file is opened.

        Raises:
            InputError: see `read_manifest`, `scan_folder`, `add_groups`.
        """
        self.skipped.paths.clear()
        table = self._read()
        if (self.groups or self.group_pattern) and table["group"].null_count() < len(table):
            raise InputError(
                f"{self.manifest} has a group column already; leave the column out, or data.groups and "
                "data.group_pattern"
            )
        return add_groups(table, pattern=self.group_pattern, per_image=self.groups is not None)

    def _read(self) -> pl.DataFrame:
        if self.kind == "synthetic":
            return read_manifest(self._draw())
        given = self.root if self.kind == "folder" else self.manifest
        if given is None:
            raise InputError(
                f"data={self.kind} needs data.{'root=DIR' if self.kind == 'folder' else 'manifest=FILE.csv'}"
            )
        return scan_folder(given, self.skipped) if self.kind == "folder" else read_manifest(given)

    def describe_skipped(self) -> str:
        """One line on what `find` passed over; empty where that is nothing."""
        return self.skipped.describe(self.within) if self.skipped and self.within else ""

    def find_misnamed(self, table: pl.DataFrame) -> list[Misnamed]:
        """What is wrong with the names of this table's classes; training refuses it."""
        if self.kind == "synthetic":
            return []
        root = self.within if self.kind == "folder" else None
        found = find_misnamed(table, root, {})
        if not found or self.kind == "folder" or self.manifest is None:
            return found
        return find_misnamed(table, root, find_rows(self.manifest, table["path"]))

    def _draw(self) -> Path:
        name = f"drawing_{DRAWING_VERSION}_{self.num_images}_images_{self.num_seams}_seams_seed_{self.seed}"
        return write_synthetic(
            self.cache / "synthetic" / name, num_images=self.num_images, num_seams=self.num_seams, seed=self.seed
        )

    def skip_unreadable(
        self, table: pl.DataFrame, unreadable: Mapping[int, str], policy: str
    ) -> tuple[pl.DataFrame, list[str]]:
        """The table without the files that cannot be read, and a warning that names them.

        Args:
            table: this source's samples.
            unreadable: the index of each, and the reason.
            policy: `stop`, or `skip` them.

        Raises:
            InputError: there are such files, and the policy is `stop` or nothing else is left.
        """
        if not unreadable:
            return table, []
        reasons = {table["path"][row]: why for row, why in sorted(unreadable.items())}
        rows = find_rows(self.manifest, reasons) if self.kind == "manifest" and self.manifest else {}
        shown = list_some(
            [f"{f'row {rows[path]}: ' if path in rows else ''}{path}: {why}" for path, why in reasons.items()]
        )
        if len(reasons) == len(table):
            raise InputError(f"none of the images can be read:\n{shown}")
        if policy == "stop":
            raise InputError(
                f"{len(reasons):,} of {len(table):,} images cannot be read; mend or remove them, or leave them out by "
                f"data.on_unreadable=skip. weldnet-audit with the same data keys lists them all:\n{shown}"
            )
        keep = np.ones(len(table), bool)
        keep[list(unreadable)] = False
        return table.filter(keep), [
            f"{len(reasons)} images cannot be read and are skipped (unreadable.csv has them all):\n{shown}"
        ]

    @property
    def within(self) -> Path | None:
        """The folder that files may not leave by symbolic links."""
        if self.kind == "folder":
            return Path(os.path.abspath(self.root or ""))
        return Path(os.path.abspath(self.manifest)).parent if self.manifest else None
