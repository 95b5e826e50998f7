"""Images decoded once: uint8 rows on disk, memory-mapped, so that no epoch after the first decodes anything.

Below the cache folder, `images/<key>/` belongs to one geometry, window and version of the decoder.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich.progress import Progress

from weldnet.data.decode.formats import read_content
from weldnet.data.decode.images import DECODER_VERSION, Geometry, UnreadableImage, to_geometry
from weldnet.data.file_states import FILE_SCHEMA, describe_files
from weldnet.data.segments import (
    SEGMENT_FORMAT,
    Places,
    Segments,
    SegmentWriter,
    find_damaged,
    open_segments,
    remove_segment,
)
from weldnet.data.splits.leaks import count
from weldnet.errors import InputError
from weldnet.files import describe_room
from weldnet.hardware import available_cores

SEGMENT_BYTES = 256 * 2**20
"""The pixels of one segment; a build that is killed loses no more than this."""


def cache_folder(folder: str | Path | None = None) -> Path:
    """Where decoded and drawn images are kept: `folder`, else $WELDNET_CACHE, else the user's cache folder.

    Everything below it can be deleted at any time.
    """
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "weldnet")
    return Path(folder or os.environ.get("WELDNET_CACHE") or default)


@dataclass(frozen=True)
class DecodedImages:
    """The outcome of `decode_images`: N images, decoded, or only looked through.

    Attributes:
        segments: memory-mapped uint8 arrays (M, 3, H, W).
        segment, place: int64 (N,): the array of each image and its row there; -1 where it has none.
        digests: N strings, the SHA-256 of each file as 64 hex digits; null where it could not be read.
        pages: int64 (N,), pages of each file; the first is used.
        unreadable: for each file that could not be read, its index and the reason.
    """

    segments: list[NDArray[np.uint8]]
    segment: NDArray[np.int64]
    place: NDArray[np.int64]
    digests: pl.Series
    pages: NDArray[np.int64]
    unreadable: dict[int, str]

    def select(self, rows: NDArray[np.int64]) -> "DecodedImages":
        """Some of the images, in the order of their indices (M,), all of them readable."""
        parts = {name: getattr(self, name)[rows] for name in ("segment", "place", "digests", "pages")}
        return replace(self, **parts, unreadable={})

    def mention_pages(self, paths: pl.Series) -> list[str]:
        """A sentence if some of these N files have more than one page."""
        several = np.flatnonzero(self.pages > 1)
        first = [str(paths[int(row)]) for row in several[:1]]
        return [f"{count(several, 'file')} with more than one page; the first is used: {path}" for path in first]

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copies images (B, 3, H, W) by their indices (B,)."""
        images = np.empty((len(rows), *self.segments[0].shape[1:]), np.uint8)
        for image, segment, place in zip(images, self.segment[rows], self.place[rows], strict=True):
            image[:] = self.segments[segment][place]
        return images


def decode_images(
    paths: pl.Series, geometry: Geometry, folder: Path, *, within: Path | None = None, pixels: bool = True
) -> DecodedImages:
    """Decodes files with all cores, or finds what an earlier run decoded, whatever the files were called then.

    Runs that want the same images wait for one another; files that cannot be read are tried again each time.

    Args:
        paths: N absolute paths.
        geometry: the network's input.
        folder: the cache folder.
        within: files below this folder may not be symbolic links that leave it.
        pixels: False keeps the digests alone.

    Raises:
        InputError: the cache folder cannot be written, or the disk is full.
    """
    home = folder / "images" / _key(geometry)
    files, unreadable = describe_files(paths, within)
    found: pl.DataFrame | None = None
    segments: Segments = {}
    try:
        home.mkdir(parents=True, exist_ok=True)
        found, segments = _find(home, files, geometry, pixels)
        if len(_missing(found, unreadable)):
            with _alone(home):
                # Another run may have decoded them by now.
                found, _ = _find(home, files, geometry, pixels, remove_damaged=True)
                unreadable |= _build(home, _missing(found, unreadable), geometry, pixels)
            found, segments = _find(home, files, geometry, pixels)
    except (OSError, pl.exceptions.PolarsError) as error:
        missing = _missing(found, unreadable) if found is not None else files
        unreadable |= _try(missing, geometry)
        if found is not None and not len(_missing(found, unreadable)):
            # A cache that may only be read has all that can be read.
            return _gather(found, segments, unreadable)
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"the cache {home} cannot be written: {reason}; {describe_room(home)}; choose a different one with "
            "data.cache_dir, or keep no pixels with data.cache=none"
        ) from error
    if len(_missing(found, unreadable)):
        raise InputError(f"the cache {home} was deleted or damaged while it was used; start again")
    return _gather(found, segments, unreadable)


def _try(files: pl.DataFrame, geometry: Geometry) -> dict[int, str]:
    """The index of each file that cannot be read, up to the first that can, and the reason."""
    unreadable = {}
    for index, path in files.select("index", "path").iter_rows():
        try:
            to_geometry(read_content(path), geometry)
        except UnreadableImage as error:
            unreadable[index] = str(error)
        else:
            break
    return unreadable


def _gather(found: pl.DataFrame, segments: Segments, unreadable: dict[int, str]) -> DecodedImages:
    names = {name: number for number, name in enumerate(segments)}
    segment = found["segment"].replace_strict(names, default=-1, return_dtype=pl.Int64).to_numpy()
    place, pages = (found[name].fill_null(-1).to_numpy() for name in ("place", "pages"))
    return DecodedImages(list(segments.values()), segment, place, found["digest"], pages, unreadable)


def _key(geometry: Geometry) -> str:
    return hashlib.sha256(json.dumps([DECODER_VERSION, SEGMENT_FORMAT, asdict(geometry)]).encode()).hexdigest()[:16]


def _missing(found: pl.DataFrame, unreadable: dict[int, str]) -> pl.DataFrame:
    return found.filter(pl.col("digest").is_null() & ~pl.col("index").is_in(list(unreadable)))


def _find(
    home: Path, files: pl.DataFrame, geometry: Geometry, pixels: bool, *, remove_damaged: bool = False
) -> tuple[pl.DataFrame, Segments]:
    """The files with what is known of each, null where it is not, and the segments by name.

    Pixels are verified: what is damaged is not known, and removed where that is allowed.
    """
    known, segments = open_segments(home, geometry, remove_damaged=remove_damaged)
    if not pixels:
        return _join(files, known), segments
    known = known.filter(pl.col("segment").is_in(list(segments)))
    found = _join(files, known)
    for name in (damaged := find_damaged(found, segments)):
        del segments[name]
        if remove_damaged:
            remove_segment(home, name, "its pixels are not those that were written")
    return (_join(files, known.filter(pl.col("segment").is_in(list(segments)))) if damaged else found), segments


def _join(files: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    known = known.unique(list(FILE_SCHEMA), keep="last")
    return files.join(known, on=list(FILE_SCHEMA), how="left", maintain_order="left")


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Within it, no other process writes to `home`."""
    lock = FileLock(home / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("another run is decoding into the cache; waiting for it", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        for left_by_killed_run in home.glob("building_*"):
            shutil.rmtree(left_by_killed_run, ignore_errors=True)
        for pixels in home.glob("*.u8"):
            if not pixels.with_suffix(".parquet").exists():
                pixels.unlink()
        yield
    finally:
        lock.release()


def _build(home: Path, files: pl.DataFrame, geometry: Geometry, pixels: bool) -> dict[int, str]:
    """Decodes files segment by segment; returns the index of each that could not be read, and the reason."""
    known, segments = open_segments(home, geometry)
    if pixels:
        known = known.filter(pl.col("segment").is_in(list(segments)))
    places: Places = {
        row[0]: row[1:] for row in known.select("digest", "segment", "place", "pages", "checksum").iter_rows()
    }
    del known, segments
    per_segment = max(1, SEGMENT_BYTES // (3 * geometry.height * geometry.width))
    unreadable: dict[int, str] = {}
    # Threads, not processes: Pillow decodes outside the interpreter's lock.
    with ThreadPoolExecutor(available_cores()) as pool, Progress() as progress:
        task = progress.add_task("decoding images" if pixels else "looking at images", total=len(files))
        for part in files.iter_slices(per_segment):
            with SegmentWriter(home, geometry, places, len(part) if pixels else 0) as segment:
                for _ in pool.map(segment.take, part.iter_rows(named=True)):
                    progress.advance(task)
                segment.close()
            unreadable |= segment.unreadable
    return unreadable
