"""The audit's charts as plain numbers for the page: sizes by class, classes by group, thumbnails."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from weldnet.data.decode.formats import open_picture, read_content
from weldnet.data.decode.pictures import UnreadableImage, Window

# Okabe and Ito's colours, told apart by colour-blind people; light and dark grounds both carry them.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
_DOTS: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f"M{x - 3:.1f},{y:.1f}a3,3 0 1,0 6,0a3,3 0 1,0 -6,0z",
    lambda x, y: f"M{x - 2.6:.1f},{y - 2.6:.1f}h5.2v5.2h-5.2z",
    lambda x, y: f"M{x:.1f},{y - 3.4:.1f}l3.4,6h-6.8z",
    lambda x, y: f"M{x:.1f},{y - 3.8:.1f}l3.8,3.8l-3.8,3.8l-3.8,-3.8z",
    lambda x, y: f"M{x:.1f},{y + 3.4:.1f}l3.4,-6h-6.8z",
    lambda x, y: f"M{x - 3.4:.1f},{y - 1:.1f}h6.8v2h-6.8z",
    lambda x, y: f"M{x - 1:.1f},{y - 3.4:.1f}h2v6.8h-2z",
)
_PLOT_WIDTH, _PLOT_HEIGHT = 640, 360
_MOST_DOTS = 2_000
_MOST_GROUPS = 24
_SIDE = 160


@dataclass
class Thumbnails:
    """Small JPEGs as data URIs, as long as their bytes last: a page must stay one that a browser opens.

    Attributes:
        window: how stored values are shown.
        bytes_left: characters that further thumbnails may take.
    """

    window: Window
    bytes_left: int = 12_000_000

    def draw(self, path: str) -> str | None:
        """The picture, at most 160 pixels on its long side, or None where it cannot be read or no room is left."""
        if self.bytes_left <= 0:
            return None
        try:
            image = open_picture(read_content(path), window=self.window, least=(_SIDE, _SIDE)).image
        except UnreadableImage:
            return None
        image.thumbnail((_SIDE, _SIDE))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=80)
        uri = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
        self.bytes_left -= len(uri)
        return uri


def plot_sizes(readable: pl.DataFrame) -> dict[str, Any] | None:
    """Width against height, one mark an image, a colour and a shape a class; the smallest classes share the last one.

    Returns:
        `marks` (class, colour, SVG path), `ticks` (position and pixels for each axis) and the plot's size; None where
        all images have one size.
    """
    if readable.select("width", "height").unique().height < 2:
        return None
    shown = readable.sample(min(len(readable), _MOST_DOTS), seed=0)
    right, top = (float(shown[side].max()) * 1.04 for side in ("width", "height"))  # type: ignore[arg-type]
    labels = readable["label"].value_counts(sort=True)["label"].to_list()
    alone = labels if len(labels) <= len(_DOTS) else labels[: len(_DOTS) - 1]
    marks = []
    for number, label in enumerate([*alone, *([None] if len(alone) < len(labels) else [])]):
        chosen = pl.col("label") == label if label is not None else ~pl.col("label").is_in(alone)
        dots = [
            _DOTS[number](width / right * _PLOT_WIDTH, _PLOT_HEIGHT - height / top * _PLOT_HEIGHT)
            for width, height in shown.filter(chosen).select("width", "height").iter_rows()
        ]
        name = label if label is not None else f"{len(labels) - len(alone)} other classes"
        marks.append({"name": name, "colour": _COLOURS[number], "path": "".join(dots), "key": _DOTS[number](6, 6)})
    return {
        "marks": marks,
        "x_ticks": [(tick / right * _PLOT_WIDTH, tick) for tick in _choose_ticks(right)],
        "y_ticks": [(_PLOT_HEIGHT - tick / top * _PLOT_HEIGHT, tick) for tick in _choose_ticks(top)],
        "width": _PLOT_WIDTH,
        "height": _PLOT_HEIGHT,
        "shown": len(shown),
    }


def _choose_ticks(end: float) -> Sequence[int]:
    """Four to nine round numbers from 0 to `end`."""
    step = next(digit * 10**power for power in range(9) for digit in (1, 2, 5) if digit * 10**power * 8 >= end)
    return range(0, int(end) + 1, step)


def tabulate_groups(readable: pl.DataFrame) -> dict[str, Any] | None:
    """Images by class and group, in train where there is one.

    Returns:
        `groups` (the largest), `rows` (class and, for each group, images and the share of the class), `left` (how
        many groups are not shown), `where`; None without groups of several images.
    """
    train = readable.filter(split="train")
    table = readable if train.is_empty() else train
    if table["group"].null_count() or table["group"].n_unique() in (0, len(table)):
        return None
    sizes = table["group"].value_counts(sort=True)
    groups = sorted(sizes["group"][:_MOST_GROUPS])
    counts = {(label, group): number for label, group, number in table.group_by("label", "group").len().iter_rows()}
    totals = dict(table["label"].value_counts().iter_rows())
    rows = [
        (label, [(counts.get((label, group), 0), counts.get((label, group), 0) / totals[label]) for group in groups])
        for label in sorted(totals)
    ]
    where = "all images" if train.is_empty() else "train"
    return {"groups": groups, "rows": rows, "left": len(sizes) - len(groups), "where": where}
