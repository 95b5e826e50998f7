"""The photographs of a page: which ones it shows, with which facts, and how small."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from weldnet.explain.attribution import find_stretch
from weldnet.report.words import percent

Pixels = NDArray[np.uint8]

_MISTAKE_PX = 260
_IN_CELL_PX = 170
_PER_CELL = 12
_IN_CELLS = 1200


class Picture(NamedTuple):
    """A JPEG in a data URI, and the size in pixels to show it at."""

    source: Markup
    width: int
    height: int


@dataclass
class Album:
    """Embeds photographs in a page up to a total size, so that a browser can open it."""

    bytes_left: int = 15_000_000

    @property
    def is_full(self) -> bool:
        return self.bytes_left <= 0

    def embed(self, image: Image.Image, num_pixels: int, side: int, *, widen: bool = True) -> Picture | None:
        """Embeds a photograph of at most `num_pixels`, shown at the size of `fit`; None once the album is full."""
        if self.is_full:
            return None
        scale = min(1.0, (num_pixels / (image.width * image.height)) ** 0.5)
        small = image.resize([max(1, round(length * scale)) for length in image.size]) if scale < 1 else image
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=80)
        source = Markup("data:image/jpeg;base64,") + base64.b64encode(stream.getvalue()).decode()
        self.bytes_left -= len(source)
        return Picture(source, *fit(image.width, image.height, side, widen=widen))


def fit(width: int, height: int, side: int, *, widen: bool) -> tuple[int, int]:
    """The width and height at which a photograph is shown; its long side has `side` pixels.

    Args:
        widen: show a narrow strip at twice its width, as `charts.draw_gallery` does.
    """
    scale = side / max(width, height)
    widening, heightening = (find_stretch(height, width), find_stretch(width, height)) if widen else (1, 1)
    return max(1, round(width * scale * widening)), max(1, round(height * scale * heightening))


@dataclass(frozen=True)
class Gallery:
    """The photographs of a test, each with its facts for the page.

    Attributes:
        predictions: a row for each photograph.
        thumbnails: returns the photographs of rows (B,), uint8 (B, 3, H, W), in the network's geometry.
        overlays: by row, a photograph beside its heatmap, uint8 (h, w, 3), from `draw_overlay`.
    """

    predictions: pl.DataFrame
    thumbnails: Callable[[NDArray[np.int64]], Pixels]
    overlays: dict[int, Pixels]
    album: Album = field(default_factory=Album)

    def show_mistakes(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The photographs of these rows, beside their heatmaps if there are any."""
        return self._show(rows, self.overlays, 400 * 400, _MISTAKE_PX)

    def fill_cells(self, classes: Sequence[str]) -> dict[tuple[int, int], list[dict[str, Any]]]:
        """Photographs for each cell (actual, predicted) of the confusion matrix that is not empty.

        The most certain mistakes and the least certain correct predictions come first.
        """
        confidence = pl.max_horizontal(*(f"p_{name}" for name in classes))
        is_right = pl.col("label") == pl.col("predicted")
        order = pl.when(is_right).then(confidence).otherwise(-confidence)
        table = self.predictions.with_row_index("row").sort(order, "row")
        cells = table.partition_by("label", "predicted", as_dict=True)
        per_cell = min(_PER_CELL, max(2, _IN_CELLS // len(cells)))
        # The cells of mistakes come first, because the album may become full.
        return {
            (classes.index(label), classes.index(predicted)): self._show(
                rows["row"].head(per_cell), {}, 160 * 160, _IN_CELL_PX
            )
            for (label, predicted), rows in sorted(cells.items(), key=lambda cell: (cell[0][0] == cell[0][1], cell[0]))
        }

    def _show(
        self, rows: Iterable[int], overlays: dict[int, Pixels], num_pixels: int, side: int
    ) -> list[dict[str, Any]]:
        images = dict(overlays)
        plain = [row for row in rows if row not in overlays]
        if plain and not self.album.is_full:
            images |= zip(plain, self.thumbnails(np.array(plain)).transpose(0, 2, 3, 1), strict=True)
        photographs = []
        for row in rows:
            prediction = self.predictions.row(row, named=True)
            image = Image.fromarray(np.ascontiguousarray(images[row])) if row in images else None
            photographs.append(
                {key: prediction[key] for key in ("path", "label", "predicted", "verdict", "group")}
                | {
                    "probability": percent(prediction[f"p_{prediction['predicted']}"]),
                    "probability_of_label": percent(prediction[f"p_{prediction['label']}"]),
                    "unlike": bool(prediction["unlike_training"]),
                    "picture": image and self.album.embed(image, num_pixels, side, widen=row not in overlays),
                }
            )
        return photographs
