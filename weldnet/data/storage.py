"""Where decoded images are while a network learns: on disk, in memory, on a device, or nowhere."""

import os
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from weldnet.data.decode.formats import read_content
from weldnet.data.decode.images import Geometry, to_geometry
from weldnet.data.splits.leaks import Fingerprints, fingerprint, fingerprints
from weldnet.errors import InputError, MemoryShortageError, count
from weldnet.hardware import check_memory

CACHES = ("disk", "memory", "device", "none")

Rows = NDArray[np.int64]


class Images(Protocol):
    """N images, wherever they are."""

    def read(self, rows: Rows) -> Tensor | NDArray[np.uint8]:
        """uint8 (B, 3, H, W) by their indices (B,)."""


@dataclass(frozen=True)
class DecodedImages:
    """The outcome of `weldnet.data.cache.decode_images`: N images, decoded, or only hashed.

    Attributes:
        images: memory-mapped uint8 (M, 3, H, W).
        rows: int64 (N,), the row of each image in `images`; -1 where it has none.
        digests: N strings, the SHA-256 of each file as 64 hex digits; null where it could not be read.
        pages: int64 (N,), pages of each file; the first is used.
        sizes: int64 (N, 2), width and height in pixels of each upright picture.
        unreadable: for each file that could not be read, its index and the reason.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    digests: pl.Series
    pages: NDArray[np.int64]
    sizes: NDArray[np.int64]
    unreadable: dict[int, str]

    def select(self, indices: NDArray[np.int64]) -> "DecodedImages":
        """Some of the images, by their indices (M,), all of them readable."""
        chosen = {name: getattr(self, name)[indices] for name in ("rows", "digests", "pages", "sizes")}
        return replace(self, **chosen, unreadable={})

    def mention_pages(self, paths: pl.Series) -> list[str]:
        """A sentence if some of these N files have more than one page."""
        several = paths.filter(pl.Series(self.pages > 1))
        first = several.head(1).to_list()
        return [f"{count(len(several), 'file')} with more than one page; the first is used: {path}" for path in first]

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copies images (B, 3, H, W) by their indices (B,)."""
        return self.images.take(self.rows[indices], axis=0)


class HeldImages:
    """Images held in memory or on a device: uint8 (N, 3, H, W)."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def read(self, rows: Rows | Tensor) -> Tensor:
        """By indices that may be on the device already."""
        return self.images[torch.as_tensor(rows).to(self.images.device, non_blocking=True)]

    def to(self, device: torch.device) -> "HeldImages":
        """The same images on a device, or a MemoryShortageError."""
        try:
            return HeldImages(self.images.to(device))
        except torch.OutOfMemoryError as error:
            raise MemoryShortageError(
                f"data.cache=device: {self.images.nbytes / 1e9:.1f} GB of images do not fit on {device}; take "
                "data.cache=memory or disk"
            ) from error


class FileImages:
    """N files, decoded each time they are wanted; a change of their fingerprints, `known` (N,), is an InputError."""

    def __init__(self, paths: pl.Series, known: Fingerprints, geometry: Geometry) -> None:
        # A tensor is shared; a list of strings is copied into each worker page by page as soon as it is read.
        self.paths = torch.from_numpy(
            np.array([os.fsencode(path) for path in paths]).view(np.uint8).reshape(len(paths), -1)
        )
        self.known, self.geometry = torch.from_numpy(known), geometry

    def read(self, rows: Rows) -> NDArray[np.uint8]:
        return np.stack([self._decode(int(row)) for row in rows])

    def _decode(self, row: int) -> NDArray[np.uint8]:
        path = os.fsdecode(self.paths[row].numpy().tobytes().rstrip(b"\0"))
        try:
            content = read_content(path)
            if fingerprint(content) != self.known[row]:
                raise InputError("it has changed since the run began")
            return to_geometry(content, self.geometry)[0]
        except InputError as error:
            raise InputError(f"{path}: {error}; start again, or take data.cache=disk") from None


def store(cache: str, table: pl.DataFrame, decoded: DecodedImages, geometry: Geometry) -> Images:
    """The images of a table with `path` and `digest`, kept where `cache` chooses, or a MemoryShortageError."""
    if cache == "none":
        return FileImages(table["path"], fingerprints(table["digest"]), geometry)
    if cache == "disk":
        return decoded
    num_bytes = len(table) * 3 * geometry.height * geometry.width
    check_memory(f"data.cache={cache}", num_bytes, "data.cache=disk")
    return HeldImages(torch.from_numpy(decoded.read(np.arange(len(table)))))
