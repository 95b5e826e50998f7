"""What images there are: a table of path, label, group and split, read from a manifest or a folder."""

import os
import re
from pathlib import Path

import polars as pl

from weldnet.data.images import ENDINGS
from weldnet.errors import InputError, list_some

SPLITS = ("train", "val", "test")
SCHEMA = {"path": pl.String, "label": pl.String, "group": pl.String, "split": pl.String}
"""The columns of every table of samples. `group` and `split` are null where nothing is known of them."""

_SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read_manifest(file: str | Path) -> pl.DataFrame:
    """Reads `path,label[,group][,split]`; further columns are left alone.

    Relative paths are taken from the manifest's folder and may not leave it; an absolute path is taken as it is.

    Returns:
        Table of `SCHEMA`, absolute paths, in the file's order.

    Raises:
        InputError: no such file, a column is missing, or a row (counted as the lines of the file are, the header
            being row 1) has no path or label, an unknown split, or names no file.
    """
    file = Path(os.path.abspath(file))
    if not file.is_file():
        raise InputError(f"no manifest at {file} (data.manifest)")
    table = _read_columns(file)
    table = table.with_columns(pl.col("split").str.to_lowercase().replace(_SPLIT_NAMES)).with_row_index("row", offset=2)
    table = table.filter(~pl.all_horizontal(pl.col(list(SCHEMA)).is_null()))
    if table.is_empty():
        raise InputError(f"{file} has no rows")
    _refuse_rows(file, table, pl.any_horizontal(pl.col("path", "label").is_null()), "path or label is empty")
    _refuse_rows(file, table, ~pl.col("split").is_in(SPLITS), f"split is none of {', '.join(SPLITS)}")
    if 0 < table["split"].null_count() < len(table):
        _refuse_rows(file, table, pl.col("split").is_null(), "split is empty, while other rows have one")
    if 0 < table["group"].null_count() < len(table):
        _refuse_rows(file, table, pl.col("group").is_null(), "group is empty, while other rows have one")
    table = table.with_columns(path=_resolve_paths(file, table))
    _refuse_rows(file, table, pl.col("path").is_duplicated(), "one file in more than one row; keep one of them")
    return table.drop("row")


def _read_columns(file: Path) -> pl.DataFrame:
    """The columns of `SCHEMA` as text, trimmed, null where empty or lacking."""
    try:
        table = pl.read_csv(file, infer_schema=False, encoding="utf8")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{file} cannot be read as CSV: {str(error).splitlines()[0]}; save it as UTF-8, separated by commas, names "
            "with commas in double quotes"
        ) from error
    known = {name: name.strip().lower() for name in table.columns if name.strip().lower() in SCHEMA}
    twice = sorted(name for name in known if list(known.values()).count(known[name]) > 1)
    if twice:
        raise InputError(f"{file} has one column more than once: {', '.join(twice)}; keep one of them")
    table = table.rename(known)
    missing = [name for name in ("path", "label") if name not in table.columns]
    if missing:
        raise InputError(
            f"{file} has no column {' and no column '.join(missing)}; its columns are {', '.join(table.columns)}; "
            "needed are path,label and, where known, group,split, separated by commas"
        )
    absent = [pl.lit(None, pl.String).alias(name) for name in ("group", "split") if name not in table.columns]
    return table.with_columns(absent).select(pl.col(list(SCHEMA)).str.strip_chars().replace("", None))


def _refuse_rows(file: Path, table: pl.DataFrame, fault: pl.Expr, what: str) -> None:
    rows = table.filter(fault)
    if not rows.is_empty():
        shown = [
            f"row {row['row']}: path={row['path']} label={row['label']} split={row['split']}" for row in rows.to_dicts()
        ]
        raise InputError(f"{file}: {what}:\n{list_some(shown)}")


def _resolve_paths(file: Path, table: pl.DataFrame) -> pl.Series:
    resolved, leaving, absent = [], [], []
    for row, path in table.select("row", "path").iter_rows():
        full = os.path.normpath(file.parent / path)
        if not os.path.isabs(path) and not Path(full).is_relative_to(file.parent):
            leaving.append(f"row {row}: {path}")
        elif not os.path.isfile(full):
            absent.append(f"row {row}: {path}")
        resolved.append(full)
    if leaving:
        raise InputError(
            f"{file}: a relative path may not leave the manifest's folder; move the manifest up, or write the "
            f"path in full:\n{list_some(leaving)}"
        )
    if absent:
        raise InputError(f"{file}: no such file, looked for in {file.parent}:\n{list_some(absent)}")
    return pl.Series("path", resolved, pl.String)


def scan_folder(root: str | Path) -> pl.DataFrame:
    """Finds the images of `root/<class>/**` or, when `root/train` exists, of `root/{train,val,test}/<class>/**`.

    `valid` and `validation` are taken for `val`. Hidden files and files without an image's ending are passed over.

    Returns:
        Table of `SCHEMA`, absolute paths, sorted; `group` is null.

    Raises:
        InputError: the folder is missing, holds no class folders, or a class has no image in any split.
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        raise InputError(f"no folder at {root} (data.root)")
    folders = _subfolders(root)
    known = {name: _SPLIT_NAMES[name.lower()] for name in folders if name.lower() in _SPLIT_NAMES}
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
        for label, class_folder in _subfolders(folder).items()
        # A class without an image keeps one row without a path, to be named below.
        for path in _images_below(class_folder) or [None]
    ]
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    _check_classes(root, table)
    return table.drop_nulls("path").sort("path")


def _subfolders(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")}


def _images_below(folder: Path) -> list[str | None]:
    return [
        os.path.join(where, name)
        for where, _, names in os.walk(folder)
        # .ipynb_checkpoints and .thumbnails hold copies.
        if "/." not in where.removeprefix(str(folder)).replace(os.sep, "/")
        for name in names
        if name.lower().endswith(ENDINGS) and not name.startswith(".")
    ]


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


def add_groups(table: pl.DataFrame, *, pattern: str | None = None, per_image: bool = False) -> pl.DataFrame:
    """Fills the `group` column from file names or with one group an image.

    Args:
        table: table of `SCHEMA`.
        pattern: a regular expression searched in each file's name; its first parenthesis, or all of the match, is
            the group.
        per_image: every image is its own group.

    Raises:
        InputError: the pattern is no regular expression, or some file names do not match it.
    """
    if per_image:
        return table.with_columns(group=pl.col("path"))
    if pattern is None:
        return table
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"data.group_pattern={pattern} is not a regular expression: {error}") from error
    matches = [expression.search(os.path.basename(path)) for path in table["path"]]
    groups = [match and match.group(1 if expression.groups else 0) for match in matches]
    # An empty group would make one weld of all its files.
    unmatched = [path for path, group in zip(table["path"], groups, strict=True) if not group]
    if unmatched:
        raise InputError(
            f"data.group_pattern={pattern} is not found in {len(unmatched)} of {len(table)} file names:\n"
            f"{list_some(unmatched)}"
        )
    return table.with_columns(group=pl.Series(groups, dtype=pl.String))


def write_manifest(table: pl.DataFrame, file: Path) -> None:
    """Writes a table of samples as a manifest that `read_manifest` reads again, all or nothing."""
    temporary = file.with_name(f".{file.name}.tmp")
    table.select(list(SCHEMA)).write_csv(temporary)
    temporary.replace(file)
