"""The photographs of a tested set: which are shown, and what stands under each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from weldnet.report.album import Album
from weldnet.report.words import percent

Pixels = NDArray[np.uint8]

_MISTAKE = {"num_pixels": 400 * 400, "side": 260}
_IN_CELL = {"num_pixels": 160 * 160, "side": 170}
_PER_CELL = 12
_IN_CELLS = 1200


@dataclass(frozen=True)
class Pictures:
    """The tested images, by their row in `predictions`.

    Attributes:
        thumbnails: from rows (B,) to uint8 (B, 3, H, W), as the network sees them.
        overlays: by row, uint8 (h, w, 3): the photograph beside itself under its map, as `draw_overlay` makes it.
    """

    thumbnails: Callable[[NDArray[np.int64]], Pixels]
    overlays: dict[int, Pixels]


@dataclass(frozen=True)
class Gallery:
    """Photographs of a tested set with the words on each.

    Attributes:
        predictions: a row an image.
        pictures: of the same images.
        album: holds them all.
    """

    predictions: pl.DataFrame
    pictures: Pictures
    album: Album = field(default_factory=Album)

    def show_mistakes(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Photographs beside their overlays, where there are any."""
        return self._show(rows, self.pictures.overlays, **_MISTAKE)

    def fill_cells(self, classes: Sequence[str]) -> dict[tuple[int, int], list[dict[str, Any]]]:
        """For each cell (actual, predicted) of the confusion matrix that has images, those worth looking at.

        Of the mistakes the most certain come first, of the others the least certain.
        """
        certain = pl.max_horizontal(*(f"p_{name}" for name in classes))
        is_right = pl.col("label") == pl.col("predicted")
        table = self.predictions.with_row_index("row").sort(pl.when(is_right).then(certain).otherwise(-certain), "row")
        cells = table.partition_by("label", "predicted", as_dict=True)
        number = min(_PER_CELL, max(2, _IN_CELLS // len(cells)))
        # Mistakes first, lest the album be full before them.
        return {
            (classes.index(label), classes.index(predicted)): self._show(rows["row"].head(number), {}, **_IN_CELL)
            for (label, predicted), rows in sorted(cells.items(), key=lambda cell: (cell[0][0] == cell[0][1], cell[0]))
        }

    def _show(
        self, rows: Sequence[int] | pl.Series, overlays: dict[int, Pixels], num_pixels: int, side: int
    ) -> list[dict[str, Any]]:
        images = dict(overlays)
        plain = [row for row in rows if row not in overlays]
        if plain and not self.album.is_full:
            images |= zip(plain, self.pictures.thumbnails(np.array(plain)).transpose(0, 2, 3, 1), strict=True)
        return [
            self._describe(row)
            | {
                "picture": self.album.embed(
                    Image.fromarray(np.ascontiguousarray(images[row])), num_pixels, side, widen=row not in overlays
                )
                if row in images
                else None
            }
            for row in rows
        ]

    def _describe(self, row: int) -> dict[str, Any]:
        values = self.predictions.row(row, named=True)
        return {key: values[key] for key in ("path", "label", "predicted", "verdict", "group")} | {
            "probability": percent(values[f"p_{values['predicted']}"]),
            "probability_of_label": percent(values[f"p_{values['label']}"]),
            "unlike": bool(values["unlike_training"]),
        }
