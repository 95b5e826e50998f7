"""What a source found."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from weldnet.data.sources.discovery import Skipped
from weldnet.errors import InputError, list_some


@dataclass(frozen=True)
class Found:
    """The images of a source.

    Attributes:
        table: of `weldnet.data.sources.manifest.SCHEMA`: groups where they are known, splits as the source has them.
        origin: the folder or file that was read; None for drawn images, whose names are ours.
        within: the folder that files may not leave by symbolic links; `origin` itself where classes are folders.
        rows: the row of each sample in the file, if it is a manifest.
        skipped: the files that were skipped.
    """

    table: pl.DataFrame
    origin: Path | None = None
    within: Path | None = None
    rows: pl.Series | None = None
    skipped: Skipped = field(default_factory=Skipped)

    def describe_skipped(self) -> str:
        """One line on the skipped files; empty where there are none."""
        return self.skipped.describe(self.within) if self.skipped and self.within else ""

    def locate(self, paths: Iterable[str]) -> dict[str, str]:
        """How a message names each of these paths: with its row, if there is a manifest."""
        named = {path: path for path in paths}
        if self.rows is not None:
            listed = self.table.select("path", row=self.rows).filter(pl.col("path").is_in(list(named)))
            named |= {path: f"row {row}: {path}" for path, row in listed.iter_rows()}
        return named

    def skip_unreadable(
        self, table: pl.DataFrame, reasons: Mapping[str, str], policy: str
    ) -> tuple[pl.DataFrame, list[str]]:
        """The table without the files that cannot be read, and a warning that names them, by path and reason.

        Where there are any, the policy `stop` raises an InputError; `skip` does where nothing else is left.
        """
        if not reasons:
            return table, []
        named = self.locate(reasons)
        shown = list_some([f"{named[path]}: {reason}" for path, reason in reasons.items()])
        if len(reasons) == len(table):
            raise InputError(f"none of the images can be read:\n{shown}")
        if policy == "stop":
            raise InputError(
                f"{len(reasons):,} of {len(table):,} images cannot be read; repair or remove them, or skip them with "
                f"data.on_unreadable=skip. weldnet-audit with the same data keys lists them all:\n{shown}"
            )
        return table.filter(~pl.col("path").is_in(list(reasons))), [
            f"{len(reasons)} images cannot be read and are skipped (unreadable.csv has them all):\n{shown}"
        ]
