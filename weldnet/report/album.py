"""The photographs of a page: which are shown, what stands under each, small enough that a browser opens them all."""

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
    """Embeds photographs in a page until their bytes are used up."""

    bytes_left: int = 15_000_000

    @property
    def is_full(self) -> bool:
        return self.bytes_left <= 0

    def embed(self, image: Image.Image, num_pixels: int, side: int, *, widen: bool = True) -> Picture | None:
        """A photograph of at most `num_pixels`, shown at `fit(..., side, widen)`; None once the album is full."""
        if self.is_full:
            return None
        shrink = min(1.0, (num_pixels / (image.width * image.height)) ** 0.5)
        small = image.resize([max(1, round(length * shrink)) for length in image.size]) if shrink < 1 else image
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=80)
        source = Markup("data:image/jpeg;base64,") + base64.b64encode(stream.getvalue()).decode()
        self.bytes_left -= len(source)
        return Picture(source, *fit(image.width, image.height, side, widen=widen))


def fit(width: int, height: int, side: int, *, widen: bool) -> tuple[int, int]:
    """The width and height at which a photograph is shown, at most `side` pixels on its long side.

    Args:
        widen: whether to show strips twice as wide as they are, as `charts.draw_gallery` does.
    """
    scale = side / max(width, height)
    across, along = (find_stretch(height, width), find_stretch(width, height)) if widen else (1, 1)
    return max(1, round(width * scale * across)), max(1, round(height * scale * along))


@dataclass(frozen=True)
class Gallery:
    """Photographs of a tested set, a row of `predictions` each, with the words on each.

    Attributes:
        thumbnails: from rows (B,) to uint8 (B, 3, H, W), in the network's geometry.
        overlays: by row, uint8 (h, w, 3): the photograph beside itself under its map, as `draw_overlay` makes it.
    """

    predictions: pl.DataFrame
    thumbnails: Callable[[NDArray[np.int64]], Pixels]
    overlays: dict[int, Pixels]
    album: Album = field(default_factory=Album)

    def show_mistakes(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Photographs beside their overlays, where there are any."""
        return self._show(rows, self.overlays, 400 * 400, _MISTAKE_PX)

    def fill_cells(self, classes: Sequence[str]) -> dict[tuple[int, int], list[dict[str, Any]]]:
        """Photographs of each cell (actual, predicted) of the confusion matrix that has any.

        Of the mistakes the most certain come first, of the others the least certain.
        """
        certain = pl.max_horizontal(*(f"p_{name}" for name in classes))
        is_right = pl.col("label") == pl.col("predicted")
        table = self.predictions.with_row_index("row").sort(pl.when(is_right).then(certain).otherwise(-certain), "row")
        cells = table.partition_by("label", "predicted", as_dict=True)
        number = min(_PER_CELL, max(2, _IN_CELLS // len(cells)))
        # Mistakes first: the album may be full after them.
        return {
            (classes.index(label), classes.index(predicted)): self._show(
                rows["row"].head(number), {}, 160 * 160, _IN_CELL_PX
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
        shown = []
        for row in rows:
            values = self.predictions.row(row, named=True)
            image = Image.fromarray(np.ascontiguousarray(images[row])) if row in images else None
            shown.append(
                {key: values[key] for key in ("path", "label", "predicted", "verdict", "group")}
                | {
                    "probability": percent(values[f"p_{values['predicted']}"]),
                    "probability_of_label": percent(values[f"p_{values['label']}"]),
                    "unlike": bool(values["unlike_training"]),
                    "picture": image and self.album.embed(image, num_pixels, side, widen=row not in overlays),
                }
            )
        return shown
