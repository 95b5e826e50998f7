"""Which images a person means by `source=`: a folder, a file, a glob or a manifest."""

import functools
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from weldnet.data.files import find_leaving
from weldnet.data.folders import check_names, images_below, list_folder, look_up
from weldnet.data.images import ENDINGS
from weldnet.data.manifest import read_paths
from weldnet.errors import InputError, shorten


def find_images(source: str) -> list[str]:
    """The absolute paths that `source` means, sorted, or in a manifest's order.

    - A folder: every image in it and below, by its ending; hidden files are passed over.
    - A manifest, FILE.csv: its column `path`.
    - Another file: itself, whatever its ending.
    - A glob, `**` for any depth: the files that match and have an image's ending.

    Raises:
        InputError: there is no such file, folder or match; a folder on the way cannot be looked into; a link leaves the
            folder; a name is not UTF-8.
    """
    place = os.path.abspath(os.path.expanduser(source))
    if os.path.isdir(place):
        paths = _find_below(Path(place))
    elif os.path.isfile(place):
        paths = read_paths(place) if place.lower().endswith(".csv") else [place]
    elif glob.has_magic(source):
        if source.endswith("/"):
            raise InputError(f"source={source}: a glob names images, not folders; type {source}*")
        _look_into(place)
        paths = sorted(_find_matches(place))
    else:
        raise InputError(f"source={source}: no such file or folder; source takes a folder, an image, a glob or a .csv")
    if not paths:
        hint = "; in a glob, the [ of a name is typed [[]" if glob.has_magic(source) and "[" in source else ""
        raise InputError(f"source={source}: no image there; image files end in {', '.join(ENDINGS)}{hint}")
    check_names(paths)
    return paths


def find_base(source: str, paths: Sequence[str]) -> str:
    """The folder below which images are named; it stays when `source` gets more of them.

    The folder that `source` is, or a glob's before its first sign; a file's, or a manifest's own if it holds them all,
    else the deepest that does.
    """
    place = _find_fixed(source)
    if os.path.isdir(place):
        return place
    folder = os.path.dirname(place)
    inside = all(path.startswith(os.path.join(folder, "")) for path in paths)
    return folder if inside else os.path.commonpath([os.path.dirname(path) for path in paths])


def refuse_inside(key: str, folder: Path, source: str) -> None:
    """Raises:
    InputError: a folder to write into lies where `source` looks, so that its files would be found next time.
    """
    place = Path(_find_fixed(source))
    if place.is_dir() and folder.resolve().is_relative_to(place.resolve()):
        raise InputError(
            f"{key}={folder} lies in the source, where its files would be taken for photographs next time; type "
            f"{key}=DIR, outside of {place}"
        )


def _find_matches(pattern: str) -> list[str]:
    """The images that match, each once: two `**` find it twice, and links to folders lead round in circles."""
    found: dict[tuple[str, str], str] = {}
    resolve = functools.cache(os.path.realpath)
    for path in glob.iglob(pattern, recursive=True):
        if path.lower().endswith(ENDINGS) and not os.path.isdir(path):
            folder, name = os.path.split(path)
            place = (resolve(folder), name)
            found[place] = min(path, found.get(place, path), key=lambda path: (len(path), path))
    return list(found.values())


def _look_into(pattern: str) -> None:
    """Looks into each folder in which a glob does; `glob` itself passes over a closed one without a word."""
    for place in (Path(pattern), *Path(pattern).parents):
        searched = place if place.name == "**" else place.parent
        for folder in glob.iglob(os.path.join(searched, ""), recursive=True):
            if glob.has_magic(place.name):
                list_folder(folder)
            else:
                look_up(folder, place.name)


def _find_fixed(source: str) -> str:
    """`source` in full, or for a glob the folder before its first sign."""
    place = os.path.abspath(os.path.expanduser(source))
    while glob.has_magic(place) and not os.path.exists(place):
        place = os.path.dirname(place)
    return place


def _find_below(folder: Path) -> list[str]:
    paths, leaves = sorted(images_below(folder, folder)), find_leaving(folder)
    leaving = [path for path in paths if leaves(path)]
    if leaving:
        raise InputError(
            f"source={folder}: {len(leaving)} symbolic links leave it; copy the files there, or name them by a glob or "
            f"a manifest: {shorten(leaving)}"
        )
    return paths
