"""The cache on disk: segments that never change once they have their name.

`<name>.u8` holds rows of pixels, uint8 (M, 3, H, W); `<name>.parquet` says which file each row came from, by what the
file system said of it and by the SHA-256 of its content, and what the pixels add up to. The table is named last: what
was killed half-way is not there.
"""

import hashlib
import logging
import os
import secrets
import tempfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weldnet.data.decode.formats import UnreadableImage, read_content
from weldnet.data.decode.images import Geometry, to_geometry
from weldnet.data.file_states import FILE_SCHEMA
from weldnet.files import move_into_place, write_parquet
from weldnet.hardware import available_cores

log = logging.getLogger(__name__)

SEGMENT_FORMAT = 2

ROWS = FILE_SCHEMA | {
    "digest": pl.String,
    "segment": pl.String,
    "place": pl.Int64,
    "pages": pl.Int64,
    "checksum": pl.Int64,
}
"""The columns of a table; `segment` and `place` say where the pixels are, null where only the digest was wanted.

`checksum` is the CRC-32 of the pixels.
"""

Places = dict[str, tuple[str | None, int | None, int, int | None]]
"""Segment, place, pages and checksum by digest."""

Segments = dict[str, NDArray[np.uint8]]
"""Memory-mapped pixels (M, 3, H, W) by name."""


def open_segments(home: Path, geometry: Geometry, *, remove_damaged: bool = False) -> tuple[pl.DataFrame, Segments]:
    """The rows of every table below `home`, and the segments.

    A damaged segment is passed over, so that its images are decoded again; or also removed, with a warning. Whether
    the pixels are those that were written, `find_damaged` says.
    """
    tables, segments = [pl.DataFrame(schema=ROWS)], {}
    row_shape = (3, geometry.height, geometry.width)
    for file in sorted(home.glob("*.parquet")):
        try:
            table = pl.read_parquet(file).select(list(ROWS)).cast(ROWS)  # type: ignore[arg-type]
            own = table.filter(segment=file.stem)["place"].unique().sort()
            if len(own):
                pixels = file.with_suffix(".u8")
                if not pixels.is_file():
                    raise ValueError("its pixels are not there")
                images = np.memmap(pixels, np.uint8, "r").reshape(-1, *row_shape)
                if own.to_list() != list(range(len(images))):
                    raise ValueError("its pixels are not those of its rows")
                segments[file.stem] = images
        except (OSError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
            if remove_damaged:
                remove_segment(home, file.stem, str(error).split("\n")[0])
            continue
        tables.append(table)
    known = pl.concat(tables)
    lengths = pl.col("segment").replace_strict(
        {name: len(images) for name, images in segments.items()}, default=0, return_dtype=pl.Int64
    )
    # A row may point into another segment, for what was only renamed.
    return known.filter(pl.col("segment").is_null() | pl.col("place").is_between(0, lengths - 1)), segments


def find_damaged(rows: pl.DataFrame, segments: Segments) -> set[str]:
    """The segments in which pixels of these rows are not those that were written; 0.4 s a GB on one core."""
    own = rows.select("segment", "place", "checksum").drop_nulls("segment").unique()

    def verify(part: pl.DataFrame) -> set[str]:
        return {name for name, place, crc in part.iter_rows() if zlib.crc32(segments[name][place]) != crc}

    with ThreadPoolExecutor(available_cores()) as pool:
        return set().union(*pool.map(verify, own.iter_slices(1000)))


def remove_segment(home: Path, name: str, reason: str) -> None:
    """Removes a damaged segment with a warning."""
    file = home / f"{name}.parquet"
    log.warning("a damaged part of the cache is removed and decoded again: %s (%s)", file, reason)
    file.unlink(missing_ok=True)
    file.with_suffix(".u8").unlink(missing_ok=True)


class SegmentWriter:
    """One segment in the making, to be filled by threads; nothing of it is seen before `close`.

    Args:
        home: where segments stand.
        geometry: of the pixels.
        places: what is known of contents by now; what is decoded here is added.
        room: the most rows of pixels that there will be, all of them allocated now; 0 keeps digests alone.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """

    def __init__(self, home: Path, geometry: Geometry, places: Places, room: int) -> None:
        self.home, self.geometry, self.places = home, geometry, places
        self.name = secrets.token_hex(8)
        self.rows: list[dict[str, Any]] = []
        self.unreadable: dict[int, str] = {}
        self._lock, self._used = threading.Lock(), 0
        self._building = tempfile.TemporaryDirectory(dir=home, prefix="building_")
        self._pixels_file = Path(self._building.name) / "pixels.u8"
        self._images = self._allocate(room) if room else None

    def _allocate(self, room: int) -> "np.memmap[Any, np.dtype[np.uint8]]":
        shape = (room, 3, self.geometry.height, self.geometry.width)
        try:
            with self._pixels_file.open("wb") as file:
                file.truncate(int(np.prod(shape)))
                if hasattr(os, "posix_fallocate"):
                    # All of the room now: a disk that fills up under a memory map kills the process.
                    os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
        except OSError:
            self._building.cleanup()
            raise
        return np.memmap(self._pixels_file, np.uint8, "r+", shape=shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._building.cleanup()

    def take(self, file: dict[str, Any]) -> None:
        """Reads one file: a row of `FILE_SCHEMA` with its `index`."""
        try:
            content = read_content(file["path"])
            digest = hashlib.sha256(content).hexdigest()
            # By content: what was only renamed or copied is not decoded again.
            found = self.places.get(digest) or self._decode(content, digest)
        except UnreadableImage as error:
            self.unreadable[file["index"]] = str(error)
            return
        segment, place, pages, checksum = found
        where = {"digest": digest, "segment": segment, "place": place, "pages": pages, "checksum": checksum}
        self.rows.append(file | where)

    def _decode(self, content: bytes, digest: str) -> tuple[str | None, int | None, int, int | None]:
        image, picture = to_geometry(content, self.geometry)
        # Of what was decoded, not of what the disk makes of it.
        checksum = zlib.crc32(np.ascontiguousarray(image).data)
        with self._lock:
            # Another thread may have met the same content meanwhile.
            if digest not in self.places:
                if self._images is None:
                    self.places[digest] = None, None, picture.pages, None
                else:
                    self._images[self._used] = image
                    self.places[digest] = self.name, self._used, picture.pages, checksum
                    self._used += 1
            return self.places[digest]

    def close(self) -> None:
        """Gives the segment its name; from now on others see it."""
        if self._images is not None and self._used:
            self._images.flush()
            os.truncate(self._pixels_file, self._used * self._images[0].nbytes)
            move_into_place(self._pixels_file, self.home / f"{self.name}.u8")
        self._images = None
        if self.rows:
            write_parquet(
                self.home / f"{self.name}.parquet", pl.DataFrame(self.rows, schema_overrides=ROWS).select(list(ROWS))
            )
