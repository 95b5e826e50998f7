"""Pictures of the results, as matplotlib figures without a display."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def draw_confusion(matrix: NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """A confusion matrix (C, C): counts as text, shares of each true class (row) as colour."""
    size = max(4.0, 1.8 + 0.62 * len(classes))
    figure = Figure(figsize=(size + 0.9, size), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def draw_gallery(images: NDArray[np.uint8], captions: Sequence[str], title: str) -> Figure:
    """Images (N, 3, H, W) side by side, each under its caption; strips are drawn twice as wide as they are."""
    columns = min(len(images), 12)
    rows = -(-len(images) // columns)
    height, width = images.shape[2:]
    stretch = 2.0 if height >= 4 * width else 1.0
    figure = Figure(
        figsize=(1.35 * columns + 0.3, rows * max(1.9, 0.95 * height / width / stretch) + 0.6), layout="constrained"
    )
    figure.suptitle(title)
    for axes, image, caption in zip(figure.subplots(rows, columns, squeeze=False).flat, images, captions, strict=False):
        axes.imshow(image.transpose(1, 2, 0), aspect=1 / stretch)
        axes.set_title(caption, fontsize=7, parse_math=False)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure
