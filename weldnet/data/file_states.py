"""The state of files, from which a change is seen."""

import os
import stat
from pathlib import Path

import polars as pl

from weldnet.files import find_leaving

FILE_SCHEMA = {"path": pl.String, "size": pl.Int64, "mtime_ns": pl.Int64, "ctime_ns": pl.Int64, "inode": pl.Int64}
"""The columns that change when a file does: the time of change of the inode cannot be set by hand."""


def describe_files(paths: pl.Series, within: Path | None) -> tuple[pl.DataFrame, dict[int, str]]:
    """Reads the states of N files without opening them.

    Returns:
        A table of `FILE_SCHEMA` with `index` from 0 to N - 1 before it, null where there is no regular file or a
        symbolic link leaves the folder `within`; and, for each of those, its index and the reason.
    """
    unreadable: dict[int, str] = {}
    states: list[list[int | None]] = []
    leaves = find_leaving(within)
    for index, path in enumerate(paths):
        try:
            found = os.stat(path)
            reason = leaves(path) if stat.S_ISREG(found.st_mode) else "not a regular file"
        except (OSError, ValueError) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else str(getattr(error, "strerror", error))
        if reason:
            unreadable[index] = reason
            states.append([None] * 4)
        else:
            states.append([found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino & (2**63 - 1)])
    table = pl.DataFrame(states, list(FILE_SCHEMA.items())[1:], orient="row")
    return table.insert_column(0, paths.rename("path")).with_row_index("index"), unreadable
