"""The photographs of a page: small enough that a browser opens them all."""

import base64
import io
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup
from PIL import Image

_STRIP = 4


class Picture(NamedTuple):
    """A JPEG in a data URI, and the size in pixels to show it at."""

    source: Markup
    width: int
    height: int


@dataclass
class Album:
    """Embeds photographs in a page as long as their bytes last.

    Attributes:
        bytes_left: characters that further photographs may take.
    """

    bytes_left: int = 15_000_000

    @property
    def is_full(self) -> bool:
        return self.bytes_left <= 0

    def embed(self, image: Image.Image, num_pixels: int, side: int, *, widen: bool = True) -> Picture | None:
        """A photograph of at most so many pixels, shown at `fit(..., side, widen)`; None once the album is full."""
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
    stretch_x = 2 if widen and height >= _STRIP * width else 1
    stretch_y = 2 if widen and width >= _STRIP * height else 1
    return max(1, round(width * scale * stretch_x)), max(1, round(height * scale * stretch_y))
