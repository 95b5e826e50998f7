"""Photographs side by side in one figure."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from weldnet.report.album import Pixels


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
