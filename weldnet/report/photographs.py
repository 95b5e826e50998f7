"""The photographs of a test: files beside the page, and a card for each, which the reader filters and sorts."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from weldnet.console import watch
from weldnet.data.decode.formats import open_picture, read_content
from weldnet.data.decode.pictures import Size, UnreadableImage, Window
from weldnet.data.splits.leaks import fingerprint, fingerprints
from weldnet.errors import InputError
from weldnet.evaluation.arrays import Floats
from weldnet.evaluation.verdicts import ACCEPT
from weldnet.files import replace_file
from weldnet.hardware import available_cores
from weldnet.report.album import Album, Pixels
from weldnet.report.words import percent

FOLDER = "report_files"
"""Beside `report.html`: the photographs, numbered as the rows of `predictions.csv`, from 0."""

MOST = 1_000
"""Photographs on the page: mistakes first, then those that were the least sure; all of them are in predictions.csv."""

NUM_SAMPLES = 4
"""Photographs that show what a class looks like."""

ESCAPE, MISTAKE, RIGHT = "escape", "mistake", "right"

_SIDE_PX = 1_024
_OVERLAY_PIXELS, _OVERLAY_SIDE = 400 * 400, 260
_MOST_WELDS = 200


def rank(predictions: pl.DataFrame, losses: Floats, good_classes: Sequence[str]) -> pl.DataFrame:
    """`row` and `kind` of each photograph: escapes, other mistakes, right predictions, each by falling loss.

    An escape is a defect that is predicted as sound or accepted.
    """
    good = pl.col("label").is_in(list(good_classes))
    passes = pl.col("predicted").is_in(list(good_classes)) | (pl.col("verdict") == ACCEPT)
    is_escape = ~good & passes if good_classes else pl.lit(False)
    is_wrong = pl.col("label") != pl.col("predicted")
    kind = pl.when(is_escape).then(pl.lit(ESCAPE)).when(is_wrong).then(pl.lit(MISTAKE)).otherwise(pl.lit(RIGHT))
    table = predictions.with_row_index("row").with_columns(kind=kind.cast(pl.Enum([ESCAPE, MISTAKE, RIGHT])))
    order = ["kind", pl.Series(losses)]
    return table.sort(order, descending=[False, True], maintain_order=True).select(
        "row", pl.col("kind").cast(pl.String)
    )


def choose_samples(predictions: pl.DataFrame) -> pl.DataFrame:
    """`row`, `path` and `label` of a few photographs of each class, of as many welds as there are."""
    table = predictions.with_row_index("row").with_columns(
        nth=pl.int_range(pl.len()).over("label", pl.coalesce("group", "path"))
    )
    samples = table.sort("nth", maintain_order=True).group_by("label", maintain_order=True).head(NUM_SAMPLES)
    return samples.select("row", "path", "label")


def copy_photographs(samples: pl.DataFrame, rows: Sequence[int], window: Window, folder: Path) -> dict[int, Size]:
    """Writes the photographs as they are, their long side at most 1,024 pixels, as JPEG into `folder / FOLDER`.

    Args:
        samples: `path` and `digest` of all photographs.
        rows: those that are wanted.

    Returns:
        Width and height of each by its row; files that cannot be read any more, or have changed, are left out.

    Raises:
        InputError: the folder is a symbolic link.
    """
    if (folder / FOLDER).is_symlink():
        raise InputError(f"{folder / FOLDER} is a symbolic link; weldnet writes there and deletes: remove the link")
    (folder / FOLDER).mkdir(exist_ok=True)
    paths, known = samples["path"].to_list(), fingerprints(samples["digest"])

    def copy(row: int) -> tuple[int, Size] | None:
        image = read_photograph(paths[row], known[row], window, _SIDE_PX)
        if image is None:
            return None
        with replace_file(folder / name_file(row), flush=False) as temporary:
            image.save(temporary, "JPEG", quality=85)
        return row, image.size

    with ThreadPoolExecutor(available_cores()) as pool:
        sizes = dict(filter(None, watch(pool.map(copy, rows), len(rows), "copying photographs")))
    for file in (folder / FOLDER).iterdir():
        if re.fullmatch(r"\d{5,}\.jpg", file.name) and int(file.stem) not in sizes:
            file.unlink()
    return sizes


def read_photograph(path: str, known: np.uint64, window: Window, side: int) -> Image.Image | None:
    """A photograph as it is, at most `side` pixels long; None for a file that cannot be read any more or has changed.

    Args:
        known: its fingerprint.
    """
    try:
        content = read_content(path)
        if fingerprint(content) != known:
            return None
        image = open_picture(content, window=window, least=(side, side)).image
    except UnreadableImage:
        return None
    image.thumbnail((side, side))
    return image


def name_file(row: int) -> str:
    """The file of a photograph, relative to the page."""
    return f"{FOLDER}/{row:05d}.jpg"


@dataclass(frozen=True)
class Gallery:
    """The photographs of a test, each with its facts for the page.

    Attributes:
        predictions: a row for each photograph.
        ranked: of `rank`, the first `MOST`.
        sizes: by row, the width and height of its file, from `copy_photographs`.
        overlays: by row, a photograph beside its heatmap, uint8 (h, w, 3), from `draw_overlay`.
        samples: from `choose_samples`; None shows none.
    """

    predictions: pl.DataFrame
    ranked: pl.DataFrame
    sizes: Mapping[int, Size] = field(default_factory=dict)
    overlays: Mapping[int, Pixels] = field(default_factory=dict)
    samples: pl.DataFrame | None = None
    album: Album = field(default_factory=Album)

    def list_cards(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """What the page shows of each photograph, the worst first; numbers stand for names where it filters."""
        welds = {name: number for number, name in enumerate(self.list_welds())}
        names = sorted(self.predictions["path"].to_list())
        places = {name: number for number, name in enumerate(names)}
        cards = []
        for number, (row, kind) in enumerate(self.ranked.iter_rows()):
            prediction = self.predictions.row(row, named=True)
            label, predicted = classes.index(prediction["label"]), classes.index(prediction["predicted"])
            cards.append(
                {key: prediction[key] for key in ("path", "label", "predicted", "verdict", "group")}
                | {
                    "kind": kind,
                    "cell": (label, predicted),
                    "weld": welds.get(prediction["group"]),
                    "place": places[prediction["path"]],
                    "order": number,
                    "probability": percent(prediction[f"p_{prediction['predicted']}"]),
                    "probability_of_label": percent(prediction[f"p_{prediction['label']}"]),
                    "unlike": bool(prediction["unlike_training"]),
                    "file": name_file(row) if row in self.sizes else None,
                    "size": self.sizes.get(row),
                    "heatmap": self._embed(row),
                }
            )
        return cards

    def list_cells(self, classes: Sequence[str]) -> list[tuple[int, int]]:
        """The numbers of the confusion matrix, as (actual, predicted), of which photographs are shown."""
        pairs = self.predictions[self.ranked["row"]].select("label", "predicted").unique().iter_rows()
        return sorted((classes.index(label), classes.index(predicted)) for label, predicted in pairs)

    def list_welds(self) -> list[str]:
        """The welds that one can filter by; none where they are unknown, one an image, or more than 200."""
        shown = self.predictions[self.ranked["row"]]["group"].drop_nulls()
        welds = sorted(shown.unique().to_list())
        return [] if len(welds) > _MOST_WELDS or len(welds) == len(shown) else welds

    def list_samples(self) -> dict[str, list[dict[str, Any]]]:
        """By class, `path`, `file` and `size` of photographs that show what it looks like."""
        samples: dict[str, list[dict[str, Any]]] = {}
        for row, path, label in () if self.samples is None else self.samples.iter_rows():
            if row in self.sizes:
                samples.setdefault(label, []).append({"path": path, "file": name_file(row), "size": self.sizes[row]})
        return samples

    def _embed(self, row: int) -> Any:
        if row not in self.overlays:
            return None
        image = Image.fromarray(np.ascontiguousarray(self.overlays[row]))
        return self.album.embed(image, _OVERLAY_PIXELS, _OVERLAY_SIDE, widen=False)
