"""The images of a folder, labelled by the folders that they are in."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from weldnet.data.decode.signatures import sort_file
from weldnet.data.sources.found import (
    STRAY,
    Skipped,
    find_photographs,
    list_folder,
    refuse_link,
    skip_folder,
    take_photographs,
)
from weldnet.data.sources.manifest import SCHEMA
from weldnet.data.sources.names import name_splits
from weldnet.errors import InputError, list_some
from weldnet.spelling import tidy


def scan_folder(root: str | Path, skipped: Skipped | None = None) -> pl.DataFrame:
    """The images of `root/<class>/**` or, when `root/train` exists, of `root/{train,val,test}/<class>/**`.

    They are a table of `SCHEMA`, absolute paths, sorted; `group` is null. Splits may have any of the names in
    `weldnet.data.sources.names`. Hidden files, a NAS's thumbnails and the like, and what is no photograph are
    skipped: `skipped` gets them.

    An InputError where the folder is missing or holds no class folders, a class has no image in any split, a name is
    not UTF-8, a split has two folders, or a linked folder lies outside.
    """
    root, skipped = Path(os.path.abspath(root)), Skipped() if skipped is None else skipped
    if not root.is_dir():
        raise InputError(f"no folder at {root} (data.root); if it was moved, type where it is now: data.root=DIR")
    folders = _list_folders(root, root, skipped)
    splits = _find_splits(root, folders)
    rows = [
        (path, tidy(label), None, split)
        for folder, split in splits.items()
        for label, class_folder in (folders if split is None else _list_folders(folder, root, skipped)).items()
        # A class without an image keeps one row without a path, to be named below.
        for path in find_photographs(class_folder, root, skipped) or (None,)
    ]
    check_names([path or label for path, label, *_ in rows])
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    _check_classes(root, table, skipped)
    return table.drop_nulls("path").sort("path")


def holds_photographs(root: str) -> bool:
    """Whether a folder below `root` holds a photograph; looks no further than the first."""
    # isdir takes a name that the system does not.
    return os.path.isdir(root) and any(
        sort_file(os.path.join(where, name)) == "image"
        for where, _, names in os.walk(root)
        if where != root
        for name in names
    )


def _find_splits(root: Path, folders: dict[str, Path]) -> dict[Path, str | None]:
    """The folders of the splits, or the root alone where it holds classes."""
    known = name_splits(folders, root)
    if not ("train" in known.values() or (folders and folders.keys() == known.keys())):
        return {root: None}
    if strangers := sorted(folders.keys() - known.keys()):
        raise InputError(
            f"{root} holds the splits {', '.join(sorted(known))} and beside them {', '.join(strangers)}; "
            "the folder holds either splits or classes"
        )
    for split in known.values():
        if len(twice := sorted(name for name in known if known[name] == split)) > 1:
            raise InputError(f"{root}: the folders {' and '.join(twice)} are all {split}; make one of them")
    return {folders[name]: split for name, split in known.items()}


def _list_folders(folder: Path, root: Path, skipped: Skipped) -> dict[str, Path]:
    """The folders in one that holds splits or classes; files beside them have no class."""
    entries = list_folder(folder)
    folders = [path for path in entries if path.is_dir() and not skip_folder(folder, path.name, skipped)]
    for path in folders:
        refuse_link(path, root)
        if not tidy(path.name):
            raise InputError(f"{str(path)!r} has a name of blanks only; give the class a name")
    skipped.add(STRAY, take_photographs([str(path) for path in entries if not path.is_dir()], skipped))
    return {path.name: path for path in folders}


def check_names(names: Iterable[str]) -> None:
    """Refuses names that are not UTF-8, which no table could hold."""
    # Python keeps each byte that is not UTF-8 as a surrogate.
    strange = [repr(os.fsencode(name)) for name in names if re.search("[\ud800-\udfff]", name)]
    if strange:
        raise InputError(f"names that are not UTF-8; rename them (convmv -t utf8 does many):\n{list_some(strange)}")


def _check_classes(root: Path, table: pl.DataFrame, skipped: Skipped) -> None:
    note = f"; {skipped.describe(root)}" if skipped else ""
    if table.is_empty():
        raise InputError(f"{root} holds no class folders; expected {root}/<class>/* or {root}/train/<class>/*{note}")
    if empty := sorted(set(table["label"]) - set(table.drop_nulls("path")["label"])):
        raise InputError(
            f"no image in any split for {', '.join(map(repr, empty))} below {root}; put images there or remove the "
            f"folder{note}"
        )
