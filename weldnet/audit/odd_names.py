"""Names that can hardly be meant, and photographs that were passed over."""

from collections.abc import Sequence

import polars as pl

from weldnet.audit.findings import Finding
from weldnet.data.sources.class_names import Misnamed
from weldnet.data.sources.discovery import UNREAD, Skipped
from weldnet.errors import shorten
from weldnet.spelling import find_alike


def check_names(samples: pl.DataFrame, misnamed: Sequence[Misnamed], skipped: Skipped) -> list[Finding]:
    """`alike_names` and `split_names` where training refuses a class; `alike_names` of groups; `unread_format`.

    Args:
        samples: table of `weldnet.data.sources.manifest.SCHEMA`.
        misnamed: the classes.
        skipped: what the search for the images passed over.
    """
    findings = [Finding(each.kind, "error", each.paths, f"{each.detail}: {shorten(each.where)}") for each in misnamed]
    unread = [
        Finding("unread_format", "warning", (path,), "a photograph that weldnet does not read")
        for path in sorted(skipped.paths.get(UNREAD, ()))
    ]
    return findings + _check_groups(samples) + unread


def _check_groups(samples: pl.DataFrame) -> list[Finding]:
    sets = find_alike(samples["group"])
    number = {name: index for index, alike in enumerate(sets) for name in alike}
    rows = samples.filter(pl.col("group").is_in(list(number))).select(
        "path", index=pl.col("group").replace_strict(number, return_dtype=pl.Int64)
    )
    paths = dict(rows.group_by("index").agg("path").iter_rows())
    what = "groups that differ by case or blanks only count as different welds"
    return [
        Finding("alike_names", "warning", tuple(paths[index]), f"{what}: {shorten(list(map(repr, alike)))}")
        for index, alike in enumerate(sets)
    ]
