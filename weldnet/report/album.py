"""The photographs of a page: which are shown, small enough that a browser opens them all."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from weldnet.report.words import percent

Pixels = NDArray[np.uint8]

_SMALL, _LARGE = 160 * 160, 400 * 400
"""Pixels of a photograph in a cell of the confusion matrix, and of one in the gallery."""

_PER_CELL = 12
_IN_CELLS = 1200
_ROOM = 15_000_000
_TALL, _SHORT = 260, 170
_STRIP = 4


@dataclass(frozen=True)
class Pictures:
    """The tested images, by their row in `predictions`.

    Attributes:
        thumbnails: from rows (B,) to uint8 (B, 3, H, W), as the network sees them.
        overlays: by row, uint8 (h, w, 3): the photograph beside itself under its map, as `draw_overlay` makes it.
    """

    thumbnails: Callable[[NDArray[np.int64]], Pixels]
    overlays: dict[int, Pixels]


@dataclass
class Album:
    """Photographs as JPEG in data URIs, as long as their bytes last, and what stands under each.

    Attributes:
        predictions: a row an image.
        bytes_left: characters that further photographs may take.
    """

    predictions: pl.DataFrame
    pictures: Pictures
    bytes_left: int = _ROOM
    _reads: dict[int, Pixels] = field(default_factory=dict)

    def describe(self, row: int) -> dict[str, Any]:
        """The words on one image; `path` is shown without the album's common folder by the page."""
        said = self.predictions.row(row, named=True)
        return {
            "path": said["path"],
            "label": said["label"],
            "predicted": said["predicted"],
            "probability": percent(said[f"p_{said['predicted']}"]),
            "probability_of_true": percent(said[f"p_{said['label']}"]),
            "verdict": said["verdict"],
            "unlike": bool(said["unlike_training"]),
            "group": said["group"],
        }

    def show(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Photographs for the gallery, beside their overlays where there are any."""
        shown = []
        plain = self._read([row for row in rows if row not in self.pictures.overlays])
        for row in rows:
            overlay = self.pictures.overlays.get(row)
            picture = self._draw(plain.get(row) if overlay is None else overlay, _LARGE, _TALL, overlay is None)
            shown.append(self.describe(row) | {"picture": picture})
        return shown

    def fill_cells(self, classes: Sequence[str]) -> dict[tuple[int, int], list[dict[str, Any]]]:
        """For each cell of the confusion matrix with images, by true and called class, those worth looking at.

        Of the mistakes the most certain come first, of the others the least certain.
        """
        table = self.predictions.with_row_index("row")
        certain = pl.max_horizontal(*(f"p_{name}" for name in classes))
        table = table.with_columns(
            _order=pl.when(pl.col("label") == pl.col("predicted")).then(certain).otherwise(-certain)
        )
        parts = table.sort("_order", "row").partition_by("label", "predicted", as_dict=True)
        number = min(_PER_CELL, max(2, _IN_CELLS // len(parts)))
        places = {name: i for i, name in enumerate(classes)}
        chosen = {
            (places[label], places[called]): part["row"].head(number).to_list()
            for (label, called), part in sorted(parts.items())
        }
        # Mistakes first: they are what the room is for, should it not suffice.
        order = sorted(chosen, key=lambda cell: cell[0] == cell[1])
        cells = {}
        for cell in order:
            images = self._read(chosen[cell])
            cells[cell] = [
                self.describe(row) | {"picture": self._draw(images.get(row), _SMALL, _SHORT)} for row in chosen[cell]
            ]
        return cells

    def _read(self, rows: Sequence[int]) -> dict[int, Pixels]:
        """Images (H, W, 3) by row; none once the room is used up."""
        if not rows or self.bytes_left <= 0:
            return {}
        images = self.pictures.thumbnails(np.array(rows, np.int64))
        return {row: image.transpose(1, 2, 0) for row, image in zip(rows, images, strict=True)}

    def _draw(self, pixels: Pixels | None, most: int, side: int, widen: bool = True) -> dict[str, Any] | None:
        """Its `source`, and the `width` and `height` to show it at; None without pixels or room."""
        if pixels is None or self.bytes_left <= 0:
            return None
        height, width = pixels.shape[:2]
        image = Image.fromarray(np.ascontiguousarray(pixels))
        shrink = min(1.0, (most / (height * width)) ** 0.5)
        if shrink < 1:
            image = image.resize((max(1, round(width * shrink)), max(1, round(height * shrink))))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=80)
        source = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
        self.bytes_left -= len(source)
        return {"source": source} | fit(height, width, side, widen)


def fit(height: int, width: int, side: int, widen: bool) -> dict[str, int]:
    """The size at which a photograph is shown, at most `side` pixels on its long side.

    Args:
        widen: whether to show strips twice as wide as they are, as `evaluation.figures.draw_gallery` does.
    """
    stretch_x, stretch_y = (
        2 if widen and height >= _STRIP * width else 1,
        2 if widen and width >= _STRIP * height else 1,
    )
    scale = side / max(height, width)
    return {"width": max(1, round(width * scale * stretch_x)), "height": max(1, round(height * scale * stretch_y))}
