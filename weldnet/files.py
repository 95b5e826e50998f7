"""Files written whole: beside their target, flushed to disk, renamed; and what to do when the system refuses one."""

import csv
import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from weldnet.errors import InputError

if TYPE_CHECKING:
    import polars as pl

_MAX_NAME = 255

_ADVICE = {
    errno.ENOSPC: "make room there, or name a different folder",
    errno.EDQUOT: "your quota is used up: make room there, or name a different folder",
    errno.EFBIG: "raise the limit of ulimit -f, or name a folder whose file system takes larger files",
    errno.EROFS: "name a different folder",
    errno.EACCES: "change its permissions, or name a different folder",
    errno.EPERM: "change its permissions, or name a different folder",
    errno.EIO: "check the disk, or name a different folder",
    errno.EMFILE: "raise the limit of open files, ulimit -n",
    errno.ENFILE: "raise the system's limit of open files",
}
"""What to do when the system refuses a file; none of these is a fault of ours."""

_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def replace_file(target: Path, *, flush: bool = True) -> Iterator[Path]:
    """Within it, a path to write to; afterwards what was written there has the target's name.

    Where the disk refuses, the error names the target, the old file stays, and nothing is left beside it.

    Args:
        flush: False for what can be made again at any time: a power cut may then leave it empty, a kill may not.
    """
    temporary = _name_beside(target)
    with name_failures(target, temporary):
        try:
            # A killed process may have left one, and some writers append to what is there.
            temporary.unlink(missing_ok=True)
            yield temporary
            move_into_place(temporary, target, flush=flush)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def move_into_place(source: Path, target: Path, *, flush: bool = True) -> None:
    """Gives a file, or a folder with all that is in it, its name, once all of it is on the disk."""
    if flush:
        # At once, a disk takes a thousand small files in the time of a few.
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(_flush, source.rglob("*")))
        _flush(source)
    source.replace(target)
    if flush:
        # The name, too: without it a power cut can bring the old file back.
        _flush(target.parent)


def _flush(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network drives cannot flush a folder, and one that may only be written cannot be opened.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES)):
            raise


def _name_beside(target: Path) -> Path:
    name = f".{target.name}.tmp"
    if len(os.fsencode(name)) > _MAX_NAME:
        name = f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.tmp"
    return target.with_name(name)


def remove_leftovers(folder: Path) -> None:
    """Removes what `replace_file` had begun in a folder when its process was killed."""
    for file in folder.glob(".*.tmp"):
        file.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Within it, no other process works in an existing folder; the system releases the lock of one that dies.

    Nested in one process, only the outermost counts.
    """
    # Few commands need it, and `--help` need not wait for it.
    from filelock import FileLock, Timeout

    file = folder / ".lock"
    lock = FileLock(file, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(f"another command is at work in {folder}; wait until it has ended") from error
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            # While it is held: whoever has opened this file and locks it later finds that it has no name any more.
            with suppress(OSError):
                file.unlink()
        lock.release()


def write_text(file: Path, text: str) -> None:
    """Writes a text file in UTF-8, all or nothing."""
    with replace_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(file: Path, content: object) -> None:
    """Writes plain types as JSON, all or nothing."""
    write_text(file, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(file: Path, table: "pl.DataFrame", *, for_excel: bool = False) -> None:
    """Writes a table as CSV, all or nothing; `for_excel` begins with the mark by which Excel recognises UTF-8."""
    # As text first: polars does not say by number why it cannot write to a file.
    write_text(file, table.write_csv(include_bom=for_excel))


def read_csv(file: Path) -> "pl.DataFrame":
    """What `write_csv` wrote, every column as text."""
    import polars as pl

    with file.open(encoding="utf-8", newline="") as lines:
        # polars leaves the quotes of a column's name doubled.
        names = next(csv.reader(lines))
    return pl.read_csv(file, infer_schema=False, new_columns=names)


def write_parquet(file: Path, table: "pl.DataFrame") -> None:
    """Writes a table as Parquet, all or nothing."""
    content = io.BytesIO()
    table.write_parquet(content)
    with replace_file(file) as temporary:
        temporary.write_bytes(content.getbuffer())


def find_damage(file: Path) -> str | None:
    """What is wrong with a file of `torch.save` by its own checksums, which `torch.load` ignores: 0.05 s for 100 MB.

    None also for a file that is none of torch's archives: loading it shows that.
    """
    with file.open("rb") as stream:
        if stream.read(4) != b"PK\x03\x04":
            return None
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            # As torch writes them; nobody has to unpack gigabytes that a few bytes stand for.
            is_plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not is_plain or sum(entry.file_size for entry in entries) > file.stat().st_size:
                return "its list of contents is wrong"
            damaged = archive.testzip()
    # zipfile raises nearly anything at a damaged file; each means the same to the user.
    except Exception as error:
        return f"{str(error).lower() or type(error).__name__}"
    return None if damaged is None else f"the checksum of {damaged} is wrong"


@contextmanager
def name_failures(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Within it, an error of the disk that names no file, or what is at or below `temporary`, names `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            is_ours = is_refusal(error)
        else:
            is_ours = temporary is not None and Path(os.fsdecode(error.filename)).is_relative_to(temporary)
        if not is_ours:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_refusal(error: BaseException) -> bool:
    """Whether the system refuses a file for want of room, rights or a working disk."""
    return isinstance(error, OSError) and error.errno in _ADVICE


def explain_refusal(error: OSError) -> str | None:
    """What the system refuses, how much room there is, and what to do; None where it may be a fault of ours."""
    reason, notes = str(error.strerror).lower(), "".join(f"\n{note}" for note in getattr(error, "__notes__", []))
    if error.filename is None:
        if "No usable temporary directory" in str(error.strerror):
            return f"{error.strerror}: make room in one of them, or set TMPDIR=DIR to a different one"
        return f"a file cannot be written: {reason}{notes}" if error.errno in _OF_WRITING else None
    file = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename)
    if error.errno not in _ADVICE:
        return f"{file}: {reason}{notes}"
    return f"{file}: {reason}; {describe_room(Path(file))}; {_ADVICE[error.errno]}{notes}"


def describe_room(file: Path) -> str:
    """How much room there is for a file or folder, which need not exist."""
    above = (path for path in (file, *file.absolute().parents) if path.is_dir())
    folder = next(above)
    state = os.statvfs(folder)
    if state.f_files and not state.f_favail:
        return f"the folder {folder} has no room for one more file, however small"
    return f"the folder {folder} has {state.f_bavail * state.f_frsize / 1e6:,.1f} MB free"


def find_leaving(within: Path | None) -> Callable[[str], str]:
    """Returns a function that explains how a path leaves the folder by a symbolic link, or returns an empty string."""
    if within is None:
        return lambda path: ""
    inside, real = os.path.join(within, ""), os.path.join(os.path.realpath(within), "")
    real_folder = lru_cache(maxsize=4096)(os.path.realpath)

    def leaves(path: str) -> str:
        if not path.startswith(inside):
            return ""
        folder, name = os.path.split(path)
        target = os.path.realpath(path) if os.path.islink(path) else os.path.join(real_folder(folder), name)
        return "" if target.startswith(real) else f"a symbolic link that leaves {within}; copy the file there"

    return leaves
