"""A data set of weld photographs with known defects, for the demo and the tests.

Every seam has its own metal, welder, lamp and camera, and shows every class, so a test on seams unseen in training
resembles a test on new welds.
"""

import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from weldnet.console import watch
from weldnet.errors import InputError
from weldnet.files import move_into_place, name_failures
from weldnet.synthetic.defects import DEFECTS
from weldnet.synthetic.drawing import Box, draw_weld
from weldnet.synthetic.surface import Seam

MOST_IMAGES = 1_000_000

CLASSES = ("no_defect", *DEFECTS)

JPEG_QUALITY = 92

DRAWING_VERSION = 1
"""Part of the name of every cached set: raise it when the same seed would draw other pixels."""

MANIFEST_SCHEMA = {
    **dict.fromkeys(("path", "label", "group"), pl.String),
    **{f"box_{side}": pl.Int64 for side in Box._fields},
}


def write_synthetic(root: Path, *, num_images: int, num_seams: int, seed: int) -> Path:
    """Writes `root/manifest.csv` and `root/images/<label>/<seam>_<number>.jpg`, unless they are there.

    The files depend on `num_images`, `num_seams` and `seed` alone, to the byte. They are written beside `root` and
    moved there when complete, so a killed run leaves no half data set, and of two runs at once one wins. The columns
    are `path` (relative to `root`), `label`, `group` (the seam) and the `Box` around the defect, empty for `no_defect`.

    Args:
        root: must be new, empty, or hold a data set already.
        num_images: in all, shared evenly over seams and classes.

    Raises:
        InputError: too few images for every seam to show every class, too many, or other files in `root`.
    """
    root = Path(root)
    manifest = root / "manifest.csv"
    if manifest.exists():
        return manifest
    _check(root, num_images, num_seams)
    draft = root.absolute().parent / f".{root.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        with name_failures(root):
            _write_images(draft, num_images, num_seams, seed)
            move_into_place(draft, root)
    except OSError:
        # A run at the same time finished first.
        if not manifest.exists():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _check(root: Path, num_images: int, num_seams: int) -> None:
    fewest = num_seams * len(CLASSES)
    if num_seams < 1 or num_images < fewest:
        raise InputError(
            f"num_images={num_images} is too few for num_seams={num_seams}: every seam shows all "
            f"{len(CLASSES)} classes. Use at least num_images={max(fewest, len(CLASSES))}, or fewer seams."
        )
    if num_images > MOST_IMAGES:
        raise InputError(f"num_images={num_images}: allowed are at most {MOST_IMAGES:,}")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root} exists but has no manifest.csv. Name a new or an empty folder, or remove it.")


def _write_images(folder: Path, num_images: int, num_seams: int, seed: int) -> None:
    """Spreads images over seams, and the classes over each seam, as evenly as whole numbers allow."""
    for label in CLASSES:
        (folder / "images" / label).mkdir(parents=True)
    seams = [Seam(np.random.default_rng([seed, index])) for index in range(num_seams)]
    # The seam of each photograph, and its number within the seam.
    numbers = [range(num_images // num_seams + (index < num_images % num_seams)) for index in range(num_seams)]
    shots = [(index, number) for index in range(num_seams) for number in numbers[index]]

    def write_image(shot: tuple[int, int]) -> tuple[str | int | None, ...]:
        index, number = shot
        label, group = CLASSES[sum(shot) % len(CLASSES)], f"seam_{index:03d}"
        path = f"images/{label}/{group}_{number:04d}.jpg"
        weld = draw_weld(seams[index], label, [seed, index, number])
        Image.fromarray(weld.pixels).save(folder / path, quality=JPEG_QUALITY)
        return (path, label, group, *(weld.box or (None,) * 4))

    # NumPy and Pillow release the interpreter's lock for about half of the work.
    with ThreadPoolExecutor(2) as pool:
        try:
            rows = list(watch(pool.map(write_image, shots), len(shots), "drawing welds"))
        except BaseException:  # Ctrl-C, or a full disk: do not draw the rest first
            pool.shutdown(cancel_futures=True)
            raise
    table = pl.DataFrame(rows, schema=MANIFEST_SCHEMA, orient="row")
    (folder / "manifest.csv").write_text(table.write_csv(), encoding="utf-8")
