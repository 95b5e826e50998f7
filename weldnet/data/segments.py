"""The cache on disk: segments that never change once they have their name.

`<name>.u8` holds rows of pixels, uint8 (M, 3, H, W); `<name>.parquet` says which file each row came from, by what the
file system said of it and by the SHA-256 of its content. The table is named last: what was killed half-way is not
there.
"""

import hashlib
import logging
import os
import secrets
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from weldnet.data.files import FILE_SCHEMA
from weldnet.data.formats import UnreadableImage, read_content
from weldnet.data.images import Geometry, to_geometry

log = logging.getLogger(__name__)

ROWS = FILE_SCHEMA | {"digest": pl.String, "segment": pl.String, "place": pl.Int64, "pages": pl.Int64}
"""The columns of a table; `segment` and `place` say where the pixels are, null where only the digest was wanted."""

Places = dict[str, tuple[str | None, int | None, int]]
"""Segment, place and pages by digest."""


def open_segments(home: Path, geometry: Geometry) -> tuple[pl.DataFrame, dict[str, NDArray[np.uint8]]]:
    """The rows of every table below `home`, and the memory-mapped pixels of each segment by name.

    A damaged segment is passed over with a warning, so that its images are decoded again.
    """
    tables, segments = [pl.DataFrame(schema=ROWS)], {}
    row_shape = (3, geometry.height, geometry.width)
    for file in sorted(home.glob("*.parquet")):
        try:
            table = pl.read_parquet(file).select(list(ROWS)).cast(ROWS)  # type: ignore[arg-type]
            own = table.filter(segment=file.stem)["place"]
            if len(own):
                images = np.memmap(file.with_suffix(".u8"), np.uint8, "r").reshape(-1, *row_shape)
                if len(images) != len(own.unique()):
                    raise ValueError("its pixels are not as many as its rows")
                segments[file.stem] = images
        except (OSError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
            log.warning("%s is damaged (%s); its images are decoded again", file, str(error).split("\n")[0])
            continue
        tables.append(table)
    return pl.concat(tables), segments


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
        segment, place, pages = found
        self.rows.append({**file, "digest": digest, "segment": segment, "place": place, "pages": pages})

    def _decode(self, content: bytes, digest: str) -> tuple[str | None, int | None, int]:
        image, picture = to_geometry(content, self.geometry)
        with self._lock:
            # Another thread may have met the same content meanwhile.
            if digest not in self.places:
                if self._images is None:
                    self.places[digest] = None, None, picture.pages
                else:
                    self._images[self._used] = image
                    self.places[digest] = self.name, self._used, picture.pages
                    self._used += 1
            return self.places[digest]

    def close(self) -> None:
        """Gives the segment its name; from now on others see it."""
        if self._images is not None and self._used:
            self._images.flush()
            os.truncate(self._pixels_file, self._used * self._images[0].nbytes)
            self._pixels_file.replace(self.home / f"{self.name}.u8")
        self._images = None
        if self.rows:
            table = Path(self._building.name) / "table.parquet"
            pl.DataFrame(self.rows, schema_overrides=ROWS).select(list(ROWS)).write_parquet(table)
            table.replace(self.home / f"{self.name}.parquet")
