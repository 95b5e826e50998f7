"""Files written whole: beside their target, flushed to disk, renamed. A kill or a full disk leaves the old file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl


@contextmanager
def replace_file(target: Path) -> Iterator[Path]:
    """Within it, a path to write to; afterwards what was written there has the target's name.

    Args:
        target: in an existing folder.

    Raises:
        OSError: the disk refuses; the old file stays, and nothing is left beside it.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    # The name, too: without it a power cut can bring the old file back.
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(file: Path, text: str) -> None:
    """Writes a text file in UTF-8, all or nothing."""
    with replace_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(file: Path, table: pl.DataFrame) -> None:
    """Writes a table as CSV, all or nothing; whatever a value holds, it stays in its row and column."""
    with replace_file(file) as temporary:
        table.write_csv(temporary)
