"""What images there are, by the folders they stand in."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import polars as pl

from weldnet.data.images import ENDINGS
from weldnet.data.manifest import SCHEMA, SPLIT_NAMES
from weldnet.errors import InputError, list_some


def scan_folder(root: str | Path) -> pl.DataFrame:
    """Finds the images of `root/<class>/**` or, when `root/train` exists, of `root/{train,val,test}/<class>/**`.

    `valid` and `validation` are taken for `val`. Hidden files and files without an image's ending are passed over.

    Returns:
        Table of `SCHEMA`, absolute paths, sorted; `group` is null.

    Raises:
        InputError: the folder is missing, holds no class folders, a class has no image in any split, a name is not
            UTF-8, or a linked folder lies outside.
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        raise InputError(f"no folder at {root} (data.root); if it was moved, type where it is now: data.root=DIR")
    folders = _subfolders(root, root)
    known = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    if "train" in known.values() or (folders and set(folders) == set(known)):
        strangers = sorted(set(folders) - set(known))
        if strangers:
            raise InputError(
                f"{root} holds the splits {', '.join(sorted(known))} and beside them {', '.join(strangers)}; "
                "the folder holds either splits or classes"
            )
        splits: dict[Path, str | None] = {folders[name]: split for name, split in known.items()}
    else:
        splits = {root: None}
    rows = [
        (path, label, None, split)
        for folder, split in splits.items()
        for label, class_folder in _subfolders(folder, root).items()
        # A class without an image keeps one row without a path, to be named below.
        for path in images_below(class_folder, root) or (None,)
    ]
    check_names([path or label for path, label, *_ in rows])
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    _check_classes(root, table)
    return table.drop_nulls("path").sort("path")


def _subfolders(folder: Path, root: Path) -> dict[str, Path]:
    folders = [path for path in list_folder(folder) if path.is_dir() and not path.name.startswith(".")]
    for path in folders:
        _refuse_link(path, root)
    return {path.name: path for path in folders}


def _refuse_link(path: Path, root: Path) -> None:
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{path} is a symbolic link that leaves {root}; copy the folder there, or remove the link")


def images_below(folder: Path, root: Path) -> list[str]:
    """Absolute paths of the images in a folder and all folders below it, by their endings; hidden ones are passed over.

    Raises:
        InputError: a folder cannot be looked into, or is a link that leaves `root`.
    """
    images: list[str] = []
    for where, folders, names in os.walk(folder, onerror=_refuse_folder):
        # .ipynb_checkpoints and .thumbnails hold copies.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            # A link to a folder is not followed: within the root its images are found where they are.
            _refuse_link(Path(where, name), root)
        images += [
            os.path.join(where, name) for name in names if name.lower().endswith(ENDINGS) and not name.startswith(".")
        ]
    return images


def list_folder(folder: str | Path) -> list[Path]:
    """What lies in a folder, sorted.

    Raises:
        InputError: it cannot be looked into.
    """
    try:
        return sorted(Path(folder).iterdir())
    except OSError as error:
        _refuse_folder(error)


def look_up(folder: str, name: str) -> None:
    """Raises:
    InputError: whether the folder has such a name cannot be told.
    """
    try:
        os.lstat(os.path.join(folder, name))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        _refuse_folder(OSError(error.errno, error.strerror, folder.rstrip("/") or folder))


def _refuse_folder(error: OSError) -> NoReturn:
    # os.walk would pass over it, and its images would be missing without a word.
    raise InputError(f"{error.filename} cannot be looked into: {(error.strerror or str(error)).lower()}") from error


def check_names(names: Iterable[str]) -> None:
    """Raises:
    InputError: a file's name is not UTF-8, so that no table could hold it.
    """
    strange = [repr(os.fsencode(name)) for name in names if not _is_utf8(name)]
    if strange:
        raise InputError(f"names that are not UTF-8; rename them (convmv -t utf8 does many):\n{list_some(strange)}")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_classes(root: Path, table: pl.DataFrame) -> None:
    if table.is_empty():
        raise InputError(f"{root} holds no class folders; expected {root}/<class>/* or {root}/train/<class>/*")
    counts = table.group_by("label").agg(pl.col("path").count()).sort("label")
    empty = counts.filter(pl.col("path") == 0)["label"].to_list()
    if empty:
        raise InputError(
            f"no image in any split for {', '.join(map(repr, empty))} below {root}; "
            f"image files end in {', '.join(ENDINGS)}; put images there or remove the folder"
        )
