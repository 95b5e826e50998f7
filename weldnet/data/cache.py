"""Images decoded once: uint8 rows of one memory-mapped file, so that no epoch after the first decodes anything.

Below the cache folder, `images/<key>/` belongs to one geometry, window and version of the decoder. `pixels.u8` holds
rows (M, 3, H, W) and only grows. `pixels.parquet` holds the row of each file, and is replaced once new rows are on the
disk: what a killed run left lies behind the last row of the index, and is cut off by the next run that writes.
"""

import hashlib
import json
import logging
import math
import os
import sys
import zlib
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from filelock import FileLock, Timeout
from rich.progress import Progress

from weldnet.data.decode.formats import read_content
from weldnet.data.decode.images import DECODER_VERSION, Geometry, to_geometry
from weldnet.data.decode.pictures import UnreadableImage
from weldnet.data.sources.found import FILE_SCHEMA, describe_files
from weldnet.data.storage import DecodedImages
from weldnet.errors import InputError, first_line
from weldnet.files import describe_room, write_parquet
from weldnet.hardware import available_cores

log = logging.getLogger(__name__)

CACHE_FORMAT = 4

CHUNK_BYTES = 256 * 2**20
"""The pixels written between two states of the index; a build that is killed loses no more than this."""

_PROPERTIES = ("pages", "width", "height")
INDEX = FILE_SCHEMA | {"digest": pl.String} | dict.fromkeys(("row", *_PROPERTIES, "checksum"), pl.Int64)
"""The columns of the index: `row` is null where only the digest was wanted; `width` and `height` are of the upright
picture; `checksum` is the CRC-32 of the pixels."""


def cache_folder(folder: str | Path | None = None) -> Path:
    """The folder of decoded and drawn images: `folder`, else $WELDNET_CACHE, else the user's cache folder.

    Everything in it can be deleted at any time.
    """
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "weldnet")
    return Path(folder or os.environ.get("WELDNET_CACHE") or default)


def decode_images(
    paths: pl.Series, geometry: Geometry, folder: Path, *, within: Path | None = None, pixels: bool = True
) -> DecodedImages:
    """Decodes files with all cores, or finds what an earlier run decoded, whatever the files' names were then.

    Runs that need the same images wait for each other; files that cannot be read are tried again each time. Without
    `pixels`, digests alone are kept. A cache folder that cannot be written, or a full disk, is an InputError.
    """
    key = hashlib.sha256(json.dumps([DECODER_VERSION, CACHE_FORMAT, asdict(geometry)]).encode()).hexdigest()[:16]
    cache = _Cache(folder / "images" / key, geometry, pixels)
    files, unreadable = describe_files(paths, within)
    found = cache.find(files)
    try:
        if len(_missing(found, unreadable)):
            with cache.lock():
                # Another run may have decoded them in the meantime.
                found = cache.find(files)
                for damage in cache.damage:
                    log.warning("the cache is damaged; decoding these images again: %s", damage)
                unreadable |= cache.add(_missing(found, unreadable))
            found = cache.find(files)
    except OSError as error:
        found = cache.find(files)
        # A read-only cache may hold every image that can be read.
        for index, path in _missing(found, unreadable).select("index", "path").iter_rows():
            if not isinstance(reason := cache.decode(path), UnreadableImage):
                raise InputError(
                    f"the cache {cache.home} cannot be written: {error.strerror or error}; "
                    f"{describe_room(cache.home)}; choose a different one with data.cache_dir, or keep no pixels with "
                    "data.cache=none"
                ) from error
            unreadable[index] = str(reason)
    if len(_missing(found, unreadable)):
        raise InputError(f"the cache {cache.home} was deleted or damaged while it was used; start again")
    rows, pages, *size = (found[name].fill_null(-1).to_numpy() for name in ("row", *_PROPERTIES))
    return DecodedImages(cache.images, rows, found["digest"], pages, np.column_stack(size), unreadable)


def _missing(found: pl.DataFrame, unreadable: dict[int, str]) -> pl.DataFrame:
    missing = found.filter(pl.col("digest").is_null() & ~pl.col("index").is_in(list(unreadable)))
    return missing.select("index", *FILE_SCHEMA)


class _Cache:
    """The two files of one geometry; without `pixels` it finds and adds digests alone.

    Attributes:
        index: a table of `INDEX`, as of the last `find`, without the rows that it found damaged.
        images: uint8 (M, 3, H, W), memory-mapped: all rows that the index names.
        damage: what the last `find` found damaged: each file with the reason.
    """

    def __init__(self, home: Path, geometry: Geometry, pixels: bool) -> None:
        self.home, self.geometry, self.pixels = home, geometry, pixels
        self.index_file, self.pixels_file = home / "pixels.parquet", home / "pixels.u8"

    def lock(self) -> AbstractContextManager[object]:
        """Within it, no other process adds images."""
        self.home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.home / ".lock")
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            print("another run is decoding into the cache; waiting for it", file=sys.stderr, flush=True)
            return lock.acquire()

    def _open(self) -> None:
        row_shape = (3, self.geometry.height, self.geometry.width)
        self.index, self.images = pl.DataFrame(schema=INDEX), np.empty((0, *row_shape), np.uint8)
        self.damage: list[str] = []
        try:
            index = pl.read_parquet(self.index_file).select(list(INDEX)).cast(INDEX)  # type: ignore[arg-type]
            size = self.pixels_file.stat().st_size if self.pixels_file.exists() else 0
            is_there = pl.col("row").is_between(0, size // math.prod(row_shape) - 1)
            whole = index.filter(is_there | pl.col("row").is_null())
            if num_rows := whole.select(pl.col("row").max().fill_null(-1) + 1).item():
                self.images = np.asarray(np.memmap(self.pixels_file, np.uint8, "r", shape=(num_rows, *row_shape)))
        except FileNotFoundError:
            return
        except (OSError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
            self.damage = [f"{self.index_file} ({first_line(error)})"]
            return
        self.index = whole
        if len(whole) < len(index):
            self.damage = [f"{self.pixels_file} (its end is missing)"]

    def find(self, files: pl.DataFrame) -> pl.DataFrame:
        """A table of `FILE_SCHEMA` joined with the index: null where an image is not in the cache, or damaged."""
        self._open()
        found = self._join(files)
        if self.pixels and (damaged := self._find_damaged(found)):
            self.damage.append(f"{self.pixels_file} (its pixels are not those that were written)")
            self.index = self.index.filter(~pl.col("row").is_in(damaged, nulls_equal=True))
            found = self._join(files)
        return found

    def _usable(self) -> pl.DataFrame:
        return self.index.drop_nulls("row") if self.pixels else self.index

    def _join(self, files: pl.DataFrame) -> pl.DataFrame:
        known = self._usable().unique(list(FILE_SCHEMA), keep="last")
        return files.join(known, on=list(FILE_SCHEMA), how="left", maintain_order="left")

    def _find_damaged(self, found: pl.DataFrame) -> list[int]:
        """The rows whose pixels are not those that were written; 0.4 s a GB on one core."""
        used = found.select("row", "checksum").drop_nulls("row").unique().sort("row")

        def verify(rows: pl.DataFrame) -> list[int]:
            return [row for row, checksum in rows.iter_rows() if zlib.crc32(self.images[row]) != checksum]

        with ThreadPoolExecutor(available_cores()) as pool:
            return [row for rows in pool.map(verify, used.iter_slices(1000)) for row in rows]

    def add(self, files: pl.DataFrame) -> dict[int, str]:
        """Decodes what `find` did not find; returns the index of each file that cannot be read, and the reason."""
        usable = self._usable().select("digest", "row", *_PROPERTIES, "checksum")
        known = {digest: rest for digest, *rest in usable.iter_rows()}
        unreadable: dict[int, str] = {}
        num_rows, row_bytes = len(self.images), math.prod(self.images.shape[1:])
        if not num_rows:
            # Where the index was lost, another run may still have the pixels mapped: it keeps the old file.
            self.pixels_file.unlink(missing_ok=True)
        # Threads, not processes: Pillow decodes outside the interpreter's lock.
        pool = ThreadPoolExecutor(available_cores())
        try:
            with Progress() as progress, self.pixels_file.open("ab") as pixels:
                task = progress.add_task("decoding images" if self.pixels else "checking images", total=len(files))
                pixels.truncate(num_rows * row_bytes)
                for chunk in files.iter_slices(max(1, CHUNK_BYTES // row_bytes)):
                    new = []
                    decoded = pool.map(lambda path: self.decode(path, known), chunk["path"])
                    for (index, *file), result in zip(chunk.iter_rows(), decoded, strict=True):
                        progress.advance(task)
                        if isinstance(result, UnreadableImage):
                            unreadable[index] = str(result)
                            continue
                        digest, properties, image = result
                        if digest not in known and self.pixels:
                            known[digest] = [num_rows, *properties, zlib.crc32(image)]
                            pixels.write(image)
                            num_rows += 1
                        new.append([*file, digest, *known.setdefault(digest, [None, *properties, None])])
                    pixels.flush()
                    os.fsync(pixels.fileno())
                    self.index = pl.concat([self.index, pl.DataFrame(new, INDEX, orient="row")])
                    write_parquet(self.index_file, self.index)
        finally:
            pool.shutdown(cancel_futures=True)
            self._open()
            if len(self.images):
                os.truncate(self.pixels_file, self.images.nbytes)
            else:
                self.pixels_file.unlink(missing_ok=True)
        return unreadable

    def decode(self, path: str, known: Container[str] = ()) -> tuple[str, list[int], bytes] | UnreadableImage:
        """A file's digest, pages, width, height and pixels, the digest alone if known; or why it cannot be read."""
        try:
            content = read_content(path)
            digest = hashlib.sha256(content).hexdigest()
            # By content: what was only renamed or copied is not decoded again.
            if digest in known:
                return digest, [], b""
            image, picture = to_geometry(content, self.geometry)
            return digest, [picture.pages, *picture.upright_size], image.tobytes()
        except UnreadableImage as error:
            return error
