"""The images that `source=` names: those of a folder, a glob or a manifest, or one file."""

import functools
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from weldnet.data.sources.folders import check_names
from weldnet.data.sources.found import (
    Skipped,
    explain_folder,
    find_photographs,
    list_folder,
    refuse_folder,
    take_photographs,
)
from weldnet.data.sources.manifest import read_labels
from weldnet.errors import InputError, shorten
from weldnet.files import find_leaving


def find_images(source: str, skipped: Skipped | None = None) -> list[str]:
    """The absolute paths that `source` names, sorted, or in a manifest's order.

    - A folder: every photograph in it and below; hidden files, a NAS's thumbnails and the like go to `skipped`. One in
      a format that the decoder does not read is found, too, so that it is reported.
    - A manifest, FILE.csv: its column `path`.
    - Any other file: itself, whatever it is.
    - A glob, `**` for any depth: the photographs that match.

    An InputError where there is no such file, folder or match, a folder on the way cannot be read, a link leaves the
    folder, or a name is not UTF-8.
    """
    path = os.path.abspath(os.path.expanduser(source))
    skipped = Skipped() if skipped is None else skipped
    if os.path.isdir(path):
        paths = _find_below(Path(path), skipped)
    elif os.path.isfile(path):
        paths = [*read_labels(path)] if path.lower().endswith(".csv") else [path]
    elif glob.has_magic(source):
        if source.endswith("/"):
            raise InputError(f"source={source}: a glob names images, not folders; type {source}*")
        _check_folders(path)
        paths = sorted(_find_matches(path, skipped))
    else:
        raise InputError(f"source={source}: no such file or folder; source takes a folder, an image, a glob or a .csv")
    if not paths:
        hint = "; in a glob, the [ of a name is typed [[]" if glob.has_magic(source) and "[" in source else ""
        note = f"; {skipped.describe(_find_fixed(source))}" if skipped else ""
        raise InputError(f"source={source}: no image there{note}{hint}")
    check_names(paths)
    return paths


def find_base(source: str, paths: Sequence[str]) -> str:
    """The folder below which images are named; it stays when `source` gets more of them.

    The folder that `source` is, or a glob's before its first wildcard; a file's, or a manifest's own if it holds them
    all, else the deepest that does.
    """
    fixed = _find_fixed(source)
    if os.path.isdir(fixed):
        return fixed
    folder = os.path.dirname(fixed)
    inside = all(path.startswith(os.path.join(folder, "")) for path in paths)
    return folder if inside else os.path.commonpath([os.path.dirname(path) for path in paths])


def refuse_inside(key: str, folder: Path, source: str) -> None:
    """Refuses a folder to write into that lies in the source and is not skipped: its files would be found next time."""
    fixed = Path(_find_fixed(source))
    top, path = fixed.resolve(), folder.resolve()
    below = [str(each) for each in (path, *path.parents) if top in each.parents]
    if fixed.is_dir() and (below or path == top) and not any(map(explain_folder, below)):
        raise InputError(
            f"{key}={folder} lies in the source, where its files would be taken for photographs next time; type "
            f"{key}=DIR, outside of {fixed}"
        )


def _find_matches(pattern: str, skipped: Skipped) -> list[str]:
    """The images that match, each once: two `**` find it twice, and links to folders lead round in circles."""
    found: dict[tuple[str, str], str] = {}
    resolve = functools.cache(os.path.realpath)
    explain = functools.cache(functools.partial(_explain_folder, pattern))
    for path in glob.iglob(pattern, recursive=True):
        folder, name = os.path.split(path)
        if os.path.isdir(path):
            continue
        if reason := explain(folder):
            skipped.add(reason, [path])
            continue
        file = (resolve(folder), name)
        found[file] = min(path, found.get(file, path), key=lambda path: (len(path), path))
    return take_photographs(found.values(), skipped, unread=True)


def _explain_folder(pattern: str, folder: str) -> str:
    """Why a glob's matches in a folder are skipped: a folder above is, and the pattern does not name it."""
    named, paths = pattern.split(os.sep), [*reversed(Path(folder).parents), Path(folder)]
    unnamed = (str(path) for path in paths if path.name not in named)
    return next(filter(None, map(explain_folder, unnamed)), "")


def _check_folders(pattern: str) -> None:
    """Refuses a folder that a glob would search and cannot read; `glob` itself skips it without a word."""
    for part in (Path(pattern), *Path(pattern).parents):
        searched = part if part.name == "**" else part.parent
        for folder in glob.iglob(os.path.join(searched, ""), recursive=True):
            if glob.has_magic(part.name):
                list_folder(folder)
                continue
            try:
                os.lstat(os.path.join(folder, part.name))
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                refuse_folder(OSError(error.errno, error.strerror, folder.rstrip("/") or folder))


def _find_fixed(source: str) -> str:
    """`source` in full, or for a glob the folder before its first wildcard."""
    path = os.path.abspath(os.path.expanduser(source))
    while glob.has_magic(path) and not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _find_below(folder: Path, skipped: Skipped) -> list[str]:
    paths = sorted(find_photographs(folder, folder, skipped, unread=True))
    leaves = find_leaving(folder)
    if leaving := [path for path in paths if leaves(path)]:
        raise InputError(
            f"source={folder}: {len(leaving)} symbolic links leave it; copy the files there, or name them by a glob or "
            f"a manifest: {shorten(leaving)}"
        )
    return paths
