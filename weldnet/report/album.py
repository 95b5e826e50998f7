"""Photographs inside a page, how small they are shown, and side by side in a figure."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from weldnet.explain.attribution import find_stretch

Pixels = NDArray[np.uint8]


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
        widen: show a narrow strip at twice its width, as `draw_overlay` does.
    """
    scale = side / max(width, height)
    widening, heightening = (find_stretch(height, width), find_stretch(width, height)) if widen else (1, 1)
    return max(1, round(width * scale * widening)), max(1, round(height * scale * heightening))


def draw_gallery(pictures: Sequence[Pixels], captions: Sequence[str], title: str) -> Figure:
    """Pictures (H, W, 3) of any sizes side by side, at most 12 in a row, each under its caption."""
    columns = min(len(pictures), 12)
    rows = -(-len(pictures) // columns)
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    # In inches.
    heading = 0.12 * max(caption.count("\n") + 1 for caption in captions) + 0.08
    width, height = 1.35, max(1.4, 0.95 * min(tallest, 6))
    size = max(columns * width, 0.1 * len(title)) + 0.3, rows * (heading + height) + 0.5
    # Axes of its own for each picture, laid out by matplotlib, take twice as long.
    figure = Figure(figsize=size)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.text(size[0] / 2, 0.2, title, ha="center", va="center", fontsize="large", parse_math=False)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        middle, top = 0.15 + (number % columns + 0.5) * width, 0.4 + number // columns * (heading + height) + heading
        scale = min((width - 0.08) / picture.shape[1], (height - 0.08) / picture.shape[0])
        half, below = scale * picture.shape[1] / 2, top + scale * picture.shape[0]
        axes.text(middle, top - 0.04, caption, ha="center", va="bottom", fontsize=7, parse_math=False)
        axes.imshow(picture, extent=(middle - half, middle + half, below, top), aspect="auto")
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    return figure
