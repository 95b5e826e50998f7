"""Draws a data set of weld photographs with known defects, for the demo and the tests.

Every seam has its own metal, welder, lamp and camera, and shows every class; a test on seams
that were not trained on asks what a test on new welds asks.
"""

import shutil
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from PIL import Image
from rich.console import Console
from rich.progress import track

from weldnet.errors import InputError
from weldnet.files import move_into_place, name_failures
from weldnet.synthetic.drawing import Box, draw_weld
from weldnet.synthetic.surface import Seam, draw_seam

MOST_IMAGES = 1_000_000

_IMAGE_BYTES = 16 * 1024
"""A drawn photograph as a file."""

ISO_6520: dict[str, str | None] = {
    "no_defect": None,
    "crack": "100",
    "surface_pore": "2017",
    "undercut": "501",
    "spatter": "602",
    "burn_through": "510",
}
"""Class name -> number of the imperfection in ISO 6520-1; a sound weld has none."""

JPEG_QUALITY = 92

DRAWING_VERSION = 1
"""Part of the name of every cached set: raise it when the same seed would draw other pixels."""

MANIFEST_SCHEMA = {
    "path": pl.String,
    "label": pl.String,
    "group": pl.String,
    "box_left": pl.Int64,
    "box_top": pl.Int64,
    "box_right": pl.Int64,
    "box_bottom": pl.Int64,
}


class Shot(NamedTuple):
    """One photograph to draw: the `number`-th of seam number `seam`."""

    seam: int
    number: int
    label: str

    @property
    def group(self) -> str:
        return f"seam_{self.seam:03d}"

    @property
    def path(self) -> str:
        """Relative to the data set's folder, with forward slashes."""
        return f"images/{self.label}/{self.group}_{self.number:04d}.jpg"


def write_synthetic(root: Path, *, num_images: int, num_seams: int, seed: int, num_workers: int = 2) -> Path:
    """Writes `root/manifest.csv` and `root/images/<label>/<seam>_<index>.jpg`, unless they are there.

    The files depend on `num_images`, `num_seams` and `seed` alone, to the byte. They are written beside
    `root` and moved there when complete: a run that is killed leaves no half data set, and of two runs at
    once one wins. The manifest's columns are `path` (relative to `root`), `label`, `group` (the seam) and
    `box_left, box_top, box_right, box_bottom`: pixels around the defect, right and bottom exclusive,
    empty for `no_defect`.

    Args:
        root: Folder of the data set; must be new, empty, or hold a data set already.
        num_images: Photographs in all, shared evenly over seams and classes.
        num_seams: Physical seams.
        seed: Another seed draws other seams.
        num_workers: Threads. NumPy and Pillow let go of the GIL for about half of the work.

    Returns:
        The manifest's path.

    Raises:
        InputError: If there are too few images for every seam to show every class, or `root` holds other files.
    """
    root = Path(root)
    manifest = root / "manifest.csv"
    if manifest.exists():
        return manifest
    _check(root, num_images, num_seams)
    draft = root.absolute().parent / f".{root.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        with name_failures(root):
            _write_images(draft, _plan_shots(num_images, num_seams), seed, num_workers)
            _publish(draft, root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _check(root: Path, num_images: int, num_seams: int) -> None:
    fewest = num_seams * len(ISO_6520)
    if num_seams < 1 or num_images < fewest:
        raise InputError(
            f"num_images={num_images} is too few for num_seams={num_seams}: every seam shows all "
            f"{len(ISO_6520)} classes. Use at least num_images={max(fewest, len(ISO_6520))}, or fewer seams."
        )
    free = shutil.disk_usage(next(folder for folder in root.absolute().parents if folder.exists())).free
    if num_images > MOST_IMAGES or num_images * _IMAGE_BYTES > free:
        size = num_images * _IMAGE_BYTES
        raise InputError(
            f"num_images={num_images}: allowed are at most {MOST_IMAGES:,}, and these take {size / 1e9:,.1f} GB of "
            f"disk, of which {free / 1e9:,.1f} GB are free at {root.parent}"
        )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root} exists but has no manifest.csv. Name a new or an empty folder, or remove it.")


def _publish(draft: Path, root: Path) -> None:
    """Moves the finished draft to `root`, unless another run was faster."""
    try:
        move_into_place(draft, root)
    except OSError:
        if not (root / "manifest.csv").exists():
            raise


def _plan_shots(num_images: int, num_seams: int) -> list[Shot]:
    """Spreads images over seams, and the classes over each seam, as evenly as whole numbers allow."""
    labels = list(ISO_6520)
    shots = []
    for seam in range(num_seams):
        count = num_images // num_seams + (seam < num_images % num_seams)
        shots += [Shot(seam, index, labels[(seam + index) % len(labels)]) for index in range(count)]
    return shots


def _write_images(folder: Path, shots: list[Shot], seed: int, num_workers: int) -> None:
    for label in ISO_6520:
        (folder / "images" / label).mkdir(parents=True)
    num_seams = shots[-1].seam + 1
    seams = [draw_seam(np.random.default_rng([seed, index])) for index in range(num_seams)]
    with ThreadPoolExecutor(num_workers) as pool:
        boxes = pool.map(lambda shot: _write_image(folder, seams[shot.seam], shot, seed), shots)
        try:
            rows = [_make_row(shot, box) for shot, box in zip(shots, _show_progress(boxes, len(shots)), strict=True)]
        except BaseException:  # Ctrl-C, or a full disk: do not draw the rest first
            pool.shutdown(cancel_futures=True)
            raise
    table = pl.DataFrame(rows, schema=MANIFEST_SCHEMA, orient="row")
    (folder / "manifest.csv").write_text(table.write_csv(), encoding="utf-8")


def _show_progress(boxes: Iterable[Box | None], total: int) -> Iterable[Box | None]:
    console = Console(stderr=True)
    return track(boxes, "Drawing welds", total=total, console=console, disable=not console.is_terminal, transient=True)


def _write_image(folder: Path, seam: Seam, shot: Shot, seed: int) -> Box | None:
    weld = draw_weld(seam, shot.label, [seed, shot.seam, shot.number])
    Image.fromarray(weld.pixels).save(folder / shot.path, quality=JPEG_QUALITY)
    return weld.box


def _make_row(shot: Shot, box: Box | None) -> tuple[str | int | None, ...]:
    return (shot.path, shot.label, shot.group, *(box or (None,) * 4))
