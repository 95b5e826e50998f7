"""Reviews as a manifest: what people found on the photographs that a server kept, to audit and train on."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from weldnet.errors import InputError
from weldnet.serve.kept_images import REVIEWED, find_reviewed, name_decision
from weldnet.serve.records import REVIEW
from weldnet.spelling import tidy

COLUMNS = ("path", "label", "group")


def make_manifest(records: Path, folder: Path) -> tuple[pl.DataFrame, dict[str, int]]:
    """The photographs that a server kept in a folder, with the labels of their last reviews in its records.

    A table of `COLUMNS`, and how many reviews it leaves out, by reason.
    `group` is the reference of the review, else of the decision. It is null for all where none has one; where some do,
    the others are left out, since nothing shows which weld they are of. That nothing can be listed is an InputError.
    """
    if not (folder / REVIEWED).is_dir():
        raise InputError(f"serve.keep_images={folder} holds no reviewed photographs; name the folder of weldnet-serve")
    kept = {decision: (digest, str(path)) for decision, digest, path in find_reviewed(folder)}
    reviews: dict[str, dict[str, Any]] = {}
    references: dict[str, str] = {}
    for line in _read_lines(records):
        decision = name_decision(line["request_id"], line["file"])
        if line.get("kind") == REVIEW:
            # The last one counts, and stands last.
            reviews.pop(decision, None)
            reviews[decision] = line
        elif decision in kept and line.get("sha256") == kept[decision][0] and (reference := _read_reference(line)):
            references[decision] = reference
    left_out: Counter[str] = Counter()
    rows: dict[str, tuple[str, str, str | None]] = {}
    for decision, review in reviews.items():
        if decision not in kept:
            left_out["whose photograph is not kept"] += 1
        elif review.get("label") is None:
            left_out["without a label"] += 1
        else:
            digest, path = kept[decision]
            left_out["of a photograph that is reviewed again"] += digest in rows
            rows[digest] = (path, review["label"], _read_reference(review) or references.get(decision))
    table = pl.DataFrame(list(rows.values()), dict.fromkeys(COLUMNS, pl.String), orient="row")
    if table["group"].null_count() < len(table):
        left_out["without a reference, so of no known weld"] = table["group"].null_count()
        table = table.drop_nulls("group")
    if table.is_empty():
        raise InputError(f"{records} holds no review of a photograph that is in {folder / REVIEWED}")
    return table, dict(+left_out)


def _read_reference(line: dict[str, Any]) -> str:
    """As a manifest's reader spells it; empty for blanks, which it refuses as a group."""
    return tidy(line.get("reference") or "")


def _read_lines(records: Path) -> Iterator[dict[str, Any]]:
    """The lines of a record of decisions, but for those that were cut off."""
    try:
        with records.open("rb") as lines:
            for line in lines:
                try:
                    fields = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(fields, dict) and fields.keys() >= {"request_id", "file"}:
                    yield fields
    except OSError as error:
        reason = str(error.strerror).lower()
        raise InputError(f"serve.records={records}: {reason}; name the record of weldnet-serve") from error
