"""The photographs below a folder, their states, what is skipped, and what a source makes of them."""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from weldnet.data.decode.signatures import sort_file
from weldnet.errors import InputError, list_some, shorten
from weldnet.files import find_leaving
from weldnet.spelling import make_visible

FILE_SCHEMA = {"path": pl.String, "size": pl.Int64, "mtime_ns": pl.Int64, "ctime_ns": pl.Int64, "inode": pl.Int64}
"""The columns that change when a file does: the time of change of the inode cannot be set by hand."""

UNREAD = "photographs in a format that weldnet does not read"
STRAY = "beside the class folders, so of no class"
OTHER = "of other kinds"

_FOLDERS = {
    "@eadir": "the thumbnails of a NAS",
    "#recycle": "the bin of a NAS",
    "@recycle": "the bin of a NAS",
    "@recently-snapshot": "copies that a NAS keeps",
    "#snapshot": "copies that a NAS keeps",
    "$recycle.bin": "the bin of Windows",
    "recycler": "the bin of Windows",
    "system volume information": "Windows' own",
    "lost+found": "the file system's own",
    "__macosx": "macOS's notes in an archive",
    "network trash folder": "macOS's bin",
    "temporary items": "macOS's own",
    "__pycache__": "Python's own",
    "report_files": "copies in a report of weldnet",
}
_NAMES = ("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini")
_RUN = re.compile(r"\d{4}(-\d\d){2}_\d\d(-\d\d){2}_[0-9a-f]{6}")
"""`weldnet.config.runs.name_folder` makes `runs/<command>/<date>_<time>_<short id>` where a command is started."""
_MOST = 10_000
"""Files counted below a skipped folder: a NAS may keep millions of copies."""


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


class Skipped(dict[str, list[str]]):
    """The files that a search skipped, by reason."""

    def add(self, reason: str, paths: Iterable[str]) -> None:
        if added := list(paths):
            self.setdefault(reason, []).extend(added)

    def describe(self, top: str | Path) -> str:
        """One line: how many files were skipped, and why; those that may have been meant are named, below `top`."""
        named = [reason for reason in (UNREAD, STRAY, OTHER) if reason in self]
        rest = sorted(self.keys() - set(named), key=lambda reason: -len(self[reason]))
        counts = []
        for reason in [*named, *rest]:
            paths = self[reason]
            names = [os.path.relpath(path, top) for path in sorted(paths)] if reason in named else []
            shown = reason.replace("photographs", "photograph") if len(paths) == 1 else reason
            many = " or more" if len(paths) >= _MOST else ""
            counts.append(f"{len(paths):,}{many} {shown}{f' ({shorten(names)})' if names else ''}")
        total = sum(map(len, self.values()))
        # Names that are not UTF-8 cannot be printed as they are.
        return make_visible(f"skipped {total:,} {'file' if total == 1 else 'files'}: {', '.join(counts)}")

    def to_list(self) -> list[dict[str, Any]]:
        """Reason, number and the first paths of each, of plain types."""
        return [
            {"reason": reason, "number": len(paths), "paths": sorted(paths)[:20]}
            for reason, paths in sorted(self.items())
        ]


def find_photographs(folder: Path, root: Path, skipped: Skipped, *, unread: bool = False) -> list[str]:
    """Absolute paths of the photographs in a folder and all folders below it; `skipped` gets the other files.

    A folder that cannot be read, or is a link that leaves `root`, is an InputError. With `unread`, photographs in a
    format that the decoder does not read are found, too.
    """
    found: list[str] = []
    for where, folders, names in os.walk(folder, onerror=refuse_folder):
        folders[:] = sorted(name for name in folders if not skip_folder(where, name, skipped))
        for name in folders:
            # A link to a folder is not followed: within the root its images are found where they are.
            refuse_link(Path(where, name), root)
        found += take_photographs([os.path.join(where, name) for name in names], skipped, unread=unread)
    return found


def take_photographs(paths: Iterable[str], skipped: Skipped, *, unread: bool = False) -> list[str]:
    """Those of some files that are photographs; see `find_photographs`."""
    taken = []
    for path in paths:
        if reason := _explain_name(os.path.basename(path)):
            skipped.add(reason, [path])
            continue
        kind = sort_file(path)
        if kind == "image" or (kind == "unread" and unread):
            taken.append(path)
        else:
            skipped.add(UNREAD if kind == "unread" else OTHER, [path])
    return taken


def skip_folder(where: str | Path, name: str, skipped: Skipped) -> bool:
    """Whether a folder is skipped; its files are counted then."""
    reason = explain_folder(os.path.join(where, name))
    if reason:
        below = os.walk(os.path.join(where, name))
        files = (os.path.join(parent, file) for parent, _, names in below for file in names)
        skipped.add(reason, islice(files, _MOST))
    return bool(reason)


def explain_folder(folder: str) -> str:
    """Why a folder is skipped; empty where it is not."""
    name = os.path.basename(folder)
    if name.startswith("."):
        return f"below {name} (hidden)"
    whose = _FOLDERS.get(name.lower())
    if _RUN.match(name) or (name == "runs" and _holds_only_runs(folder)):
        whose = "what weldnet has written"
    return f"below {name} ({whose})" if whose else ""


def _holds_only_runs(folder: str) -> bool:
    """Whether this `runs/` is of whoever started a command among the photographs, and no class of that name."""
    has_runs = False
    for where, folders, names in os.walk(folder):
        if any(sort_file(os.path.join(where, name)) == "image" for name in names):
            return False
        has_runs |= any(map(_RUN.match, folders))
        folders[:] = [name for name in folders if not _RUN.match(name)]
    return has_runs


def _explain_name(name: str) -> str:
    if name.startswith("._"):
        return "whose name begins with ._ (macOS's notes on other files)"
    if name.startswith("."):
        return "hidden"
    return f"named {name}" if name.lower() in _NAMES else ""


def refuse_link(path: Path, root: Path) -> None:
    """Refuses a folder that is a symbolic link out of the root."""
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{path} is a symbolic link that leaves {root}; copy the folder there, or remove the link")


def list_folder(folder: str | Path) -> list[Path]:
    """The entries of a folder, sorted; one that cannot be read is refused."""
    try:
        return sorted(Path(folder).iterdir())
    except OSError as error:
        refuse_folder(error)


def refuse_folder(error: OSError) -> NoReturn:
    """Refuses a folder that cannot be read: `os.walk` would skip it, and its images would be missing without a word."""
    raise InputError(f"{error.filename} cannot be read: {(error.strerror or str(error)).lower()}") from error


@dataclass(frozen=True)
class Found:
    """The images of a source.

    Attributes:
        table: of `weldnet.data.sources.manifest.SCHEMA`: groups where they are known, splits as the source has them.
        origin: the folder or file that was read; None for drawn images, whose names are ours.
        within: the folder that files may not leave by symbolic links; `origin` itself where classes are folders.
        rows: the row of each sample in the file, if it is a manifest.
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
