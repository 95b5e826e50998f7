"""Small images, folders and tables for the tests."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from weldnet.data.sources.manifest import SCHEMA

Pixels = NDArray[np.uint8]

SEAM = r"seam\d+"
"""The group pattern of `write_welds`."""


def draw_noise(height: int, width: int, seed: int = 0) -> Pixels:
    """uint8 (height, width, 3) of pixels that know nothing of each other."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def draw_blobs(height: int, width: int, seed: int = 0) -> Pixels:
    """uint8 (height, width, 3), smooth, without any symmetry."""
    coarse = Image.fromarray(draw_noise(4, 3, seed))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def draw_views(height: int, width: int, seed: int = 0) -> tuple[Pixels, Pixels]:
    """Two photographs of a spot with texture, uint8 (height, width, 3): the second from elsewhere, under less light."""
    surface = Image.fromarray(draw_noise(14, 12, seed)).resize((width + 6, height + 6), Image.Resampling.BICUBIC)
    boxes = ((0, 0, width, height), (3, 2, width + 4, height + 2))
    first, second = (surface.resize((width, height), Image.Resampling.BICUBIC, box) for box in boxes)
    return np.asarray(first), (np.asarray(second) * 0.6).astype(np.uint8)


def save_image(file: Path, pixels: Pixels) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, quality=95)
    return file


def write_welds(
    root: Path,
    classes: Sequence[str] = ("crack", "pore"),
    *,
    seams: Iterable[int] = range(4),
    shots: int = 2,
    size: tuple[int, int] = (40, 20),
    ending: str = "jpg",
) -> Path:
    """Writes root/<class>/seam<i>_<shot>.<ending>: every seam shows every class; brightness identifies the class."""
    for number, label in enumerate(classes):
        for seam in seams:
            for shot in range(shots):
                pixels = draw_blobs(*size, seed=100_000 * number + 100 * seam + shot) // 2 + number * 127 // len(
                    classes
                )
                save_image(root / label / f"seam{seam}_{shot}.{ending}", pixels.astype(np.uint8))
    return root


def make_table(rows: Iterable[tuple[str, str, str | None, str | None]]) -> pl.DataFrame:
    """A table of samples from tuples of path, label, group, split."""
    return pl.DataFrame(list(rows), schema=SCHEMA, orient="row")
