"""What of a photograph predicts its class or its split by itself: its look, or when it was taken."""

import os
import re
from typing import NamedTuple

import polars as pl

from weldnet.audit.findings import Finding
from weldnet.audit.sizes import FEWEST_GROUPS, SIZE, find_extremes, score_columns
from weldnet.console import watch
from weldnet.data.sources.groups import PART


class Cue(NamedTuple):
    """Columns of facts from which a small tree predicts; a page shows the extremes of the first one.

    `kind`, with what is predicted, is that of the finding: `look_predicts_class`.
    """

    kind: str
    name: str
    columns: tuple[str | pl.Expr, ...]


_CUES = (
    Cue("look", "brightness", ("mean", "shadows", "lights")),
    Cue("look", "contrast", ("deviation",)),
    Cue("look", "colour", ("red", "blue")),
    Cue("look", "sharpness", ("sharpness",)),
    Cue("order", "the order of the numbers in the file names", ("number",)),
    Cue("order", "the date on which the camera took it", ("date",)),
)
# Of the class, `size_predicts_class` is the finding.
_OF_SPLITS = (*_CUES, Cue("look", "size", SIZE))

_ENDS = {"look": "first the lowest, then the highest", "order": "the first ones, then the last ones"}
_MOST_SHARED = 0.05
"""Of the names, the share that may have the numbers of another one, where one camera counted them all."""

_HALF_WAY = 0.5


def check_cues(samples: pl.DataFrame) -> list[Finding]:
    """`look_predicts_class`, `order_predicts_class`, and the same of the split where test or validation has one.

    Each is a cue that leads a small tree more than half the way from chance to perfect: a defect changes the look as
    well, and neighbours in a series show one weld, so less proves nothing. Nor do fewer than four welds in a split.
    """
    table = samples.with_columns(
        # Places, which a tree keeps apart as float32. What has no date is from elsewhere: before all others.
        date=pl.col("taken").rank("dense").fill_null(0),
        number=number_names(samples),
    )
    tasks: list[tuple[pl.DataFrame, Cue, str, str]] = [(table, cue, "class", "predicts the class") for cue in _CUES]
    for split in ("test", "val"):
        sides = table.filter(pl.col("split").is_in(["train", split])).with_columns(label="split")
        welds = sides.group_by("label").agg(pl.coalesce("group", "path").n_unique())["group"]
        if len(welds) < 2 or min(welds) < FEWEST_GROUPS:
            continue
        tasks += [(sides, cue, "split", f"distinguishes {split} from train") for cue in _OF_SPLITS]
    found = (_find(*task) for task in watch(tasks, len(tasks), "looking for cues", "cues"))
    return [finding for finding in found if finding]


def _find(table: pl.DataFrame, cue: Cue, target: str, claim: str) -> Finding | None:
    score = score_columns(table, cue.columns, least=_HALF_WAY)
    if score is None or not score.is_clear:
        return None
    detail = (
        f"{cue.name} alone {claim} with balanced accuracy {score.balanced_accuracy:.2f} (chance {score.chance:.2f}); "
        f"{_ENDS[cue.kind]}"
    )
    return Finding(f"{cue.kind}_predicts_{target}", "note", find_extremes(table, cue.columns[0]), detail)


def number_names(samples: pl.DataFrame) -> pl.Series:
    """The place of each photograph in the order of the numbers in its name, from 0; the class in the name aside.

    All are 0 where too many names have the same numbers: then no camera counted them, and each class begins at 1.
    """
    classes = {label: re.compile(_spell(label), re.IGNORECASE) for label in samples["label"].unique()}
    numbers = []
    for path, label in samples.select("path", "label").iter_rows():
        stem = os.path.splitext(os.path.basename(path))[0]
        numbers.append(tuple(int(digits) for digits in re.findall("[0-9]+", classes[label].sub(" ", stem))))
    place = {each: index for index, each in enumerate(sorted(set(numbers)))}
    places = pl.Series([place[each] for each in numbers], dtype=pl.Int64)
    num_shared = int(places.is_duplicated().sum())
    return places if num_shared <= _MOST_SHARED * len(places) else pl.zeros(len(places), pl.Int64, eager=True)


def _spell(label: str) -> str:
    """A pattern for a class as a part of a name, whatever stands between its words."""
    words = r"[\W_]+".join(PART.findall(label))
    return rf"(?<![^\W_]){words}(?![^\W_])"
