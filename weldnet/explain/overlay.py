"""One explained photograph as a picture: the photograph, its overlay, the colour scale, a few words."""

import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from weldnet.explain.attribution import Image as Pixels
from weldnet.explain.attribution import Map, draw_overlay

MARGIN_PX = 16
_LEAST_WIDTH = 460
_SCALE_WIDTH, _SCALE_ROOM = 18, 48
_LARGE, _SMALL = 20, 14
_INK, _QUIET = "#1b1f24", "#59636e"


def draw_picture(image: Pixels, evidence: Map, title: str, notes: Sequence[str]) -> Image.Image:
    """The photograph (3, H, W) beside its overlay, its lower left corner `MARGIN_PX` from the picture's.

    Args:
        evidence: (H, W) in 0..1.
        title: class, probability and verdict; text wraps.
        notes: below it, smaller: the class of the heatmap, the method and the map's resolution.
    """
    pair = Image.fromarray(draw_overlay(image, evidence))
    scale = _draw_scale(max(pair.height, 4 * _SMALL))
    width = max(_LEAST_WIDTH, pair.width + _SCALE_ROOM + 3 * MARGIN_PX)
    lines = [
        (line, size, ink)
        for text, size, ink in ((title, _LARGE, _INK), *((note, _SMALL, _QUIET) for note in notes))
        for line in _wrap(text, size, width - 2 * MARGIN_PX)
    ]
    top = MARGIN_PX + sum(_line_height(size) for _, size, _ in lines) + MARGIN_PX // 2
    bottom = top + scale.height
    picture = Image.new("RGB", (width, bottom + MARGIN_PX), "white")
    pen, y = ImageDraw.Draw(picture), MARGIN_PX
    for line, size, ink in lines:
        pen.text((MARGIN_PX, y), line, ink, _font(size))
        y += _line_height(size)
    picture.paste(pair, (MARGIN_PX, bottom - pair.height))
    picture.paste(scale, (MARGIN_PX + pair.width + MARGIN_PX, top))
    return picture


def _wrap(text: str, size: int, room: int) -> list[str]:
    """The text in lines of at most `room` pixels."""
    # A letter is at least a pixel wide; starting with the whole of a long text would take minutes.
    lines, columns = [text], min(len(text), room)
    while any(_font(size).getlength(line) > room for line in lines):
        columns -= 1
        lines = textwrap.wrap(text, columns)
    return lines


def _line_height(size: int) -> int:
    return round(1.4 * size)


@cache
def _draw_scale(height: int) -> Image.Image:
    """The overlay's colours on white, from 1 at the top, the map's strongest evidence, to 0."""
    strengths = np.linspace(1, 0, 256, dtype=np.float32)[:, None]
    colours = draw_overlay(np.full((3, 256, 1), 255, np.uint8), strengths)[:, -1:]
    scale = Image.new("RGB", (_SCALE_ROOM, height), "white")
    scale.paste(Image.fromarray(colours).resize((_SCALE_WIDTH, height)))
    pen = ImageDraw.Draw(scale)
    pen.rectangle((0, 0, _SCALE_WIDTH - 1, height - 1), outline=_QUIET)
    for share, anchor in ((1.0, "lt"), (0.5, "lm"), (0.0, "lb")):
        pen.text((_SCALE_WIDTH + 5, (1 - share) * (height - 1)), f"{share:g}", _INK, _font(_SMALL), anchor)
    return scale


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's built-in font has few letters beyond those of western Europe.
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
