"""The photographs below a folder, and the files that are skipped on the way, counted by reason."""

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from weldnet.data.decode.signatures import sort_file
from weldnet.errors import InputError, shorten
from weldnet.spelling import make_visible

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
_MOST = 10_000
"""Files counted below a skipped folder: a NAS may keep millions of copies."""


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
    reason = explain_folder(name)
    if reason:
        below = os.walk(os.path.join(where, name))
        files = (os.path.join(parent, file) for parent, _, names in below for file in names)
        skipped.add(reason, islice(files, _MOST))
    return bool(reason)


def explain_folder(name: str) -> str:
    """Why a folder of this name is skipped; empty where it is not."""
    if name.startswith("."):
        return f"below {name} (hidden)"
    whose = _FOLDERS.get(name.lower())
    return f"below {name} ({whose})" if whose else ""


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
