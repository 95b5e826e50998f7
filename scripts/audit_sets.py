"""Sets of real photographs whose welds are known, as the audit sees them and as a perceptual hash does."""

import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from weldnet.audit.audit import Audit, audit
from weldnet.audit.facts import read_facts
from weldnet.console import watch
from weldnet.data.duplicates import Pairs, find_alike
from weldnet.data.sources.found import Found
from weldnet.data.sources.manifest import read_manifest
from weldnet.data.thumbnails import Floats, compare_views

HASH_BITS = 8
"""Two perceptual hashes of 64 bits that differ in no more show one spot."""

ONE_TILE, TWO_TILES, RESIZED = 300, 1000, 1.25
"""How far apart the numbers of exposures of one tile are at most, and of two at least; how much one's size varies."""

Bits = NDArray[np.bool_]


def hash_photographs(paths: pl.Series) -> Bits:
    """bool (N, 64): the perceptual hash of each file, as `imagehash.phash` makes it."""
    hashes = np.empty((len(paths), 64), bool)
    for row, path in enumerate(watch(paths, len(paths), "hashing", "photographs")):
        small = Image.open(path).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
        lowest = dctn(np.asarray(small, np.float64))[:8, :8].ravel()
        hashes[row] = lowest > np.median(lowest)
    return hashes


def find_hashed(hashes: Bits) -> Pairs:
    """Rows i < j whose hashes differ in at most `HASH_BITS`."""
    signs = hashes.astype(np.float32) * 2 - 1
    return np.argwhere(np.triu(32 - signs @ signs.T / 2 <= HASH_BITS, 1))


class Photographs:
    """A set whose groups are known: its audit, and of each distinct content the facts, hash and thumbnail."""

    def __init__(self, manifest: Path) -> None:
        self.samples = read_manifest(manifest).with_columns(split=pl.lit(None, pl.String))
        started = time.process_time()
        self.audit: Audit = audit(Found(self.samples))
        self.seconds = time.process_time() - started
        self.contents = self.audit.images.sort("content").unique("content", keep="first", maintain_order=True)
        assert self.contents["content"].to_list() == list(range(len(self.contents))), "unreadable photographs"
        self.pairs = np.concatenate(self.audit.alike)
        self.hashes = hash_photographs(self.contents["path"])
        self.thumbnails = read_facts(self.contents["path"], "full")[1]

    def cross(self, pairs: Pairs, column: str) -> Bits:
        """bool (P,): whether the two sides of pairs of contents differ in a column."""
        values = self.contents[column].to_numpy()
        return np.asarray(values[pairs[:, 0]] != values[pairs[:, 1]], bool)

    def score(self, least: float) -> tuple[Pairs, Floats]:
        """Pairs that the search would find from a similarity on, with it; 1 of those nearly identical."""
        with patch("weldnet.data.duplicates.MIN_VIEW_SIMILARITY", least):
            near, views = find_alike(self.thumbnails)
        similarity = compare_views(self.thumbnails[views[:, 0]], self.thumbnails[views[:, 1]])
        return np.concatenate([near, views]), np.concatenate([np.ones(len(near), np.float32), similarity])

    def count(self, kinds: tuple[str, ...]) -> dict[str, int]:
        return {kind: sum(found.kind == kind for found in self.audit.findings) for kind in kinds}


def compare_numbers(tiles: Photographs, pairs: Pairs) -> NDArray[np.int64]:
    """int64 (P,): 1 where the numbers of two exposures are those of one tile, -1 where of two tiles, else 0."""
    numbers = tiles.contents["path"].str.extract(r"_num_(\d+)").cast(pl.Int64).to_numpy()
    sizes = np.log(tiles.contents["width", "height"].to_numpy())
    apart = np.abs(numbers[pairs[:, 0]] - numbers[pairs[:, 1]])
    resized = np.abs(sizes[pairs[:, 0]] - sizes[pairs[:, 1]]).max(1) > np.log(RESIZED)
    return np.where((apart <= ONE_TILE) & ~resized, 1, np.where(apart > TWO_TILES, -1, 0))


def list_pairs(number: int) -> Pairs:
    return np.stack(np.triu_indices(number, 1), 1)
