"""Images decoded once: uint8 rows on disk, memory-mapped, so that no epoch after the first decodes anything."""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from weldnet.data.images import DECODER_VERSION, Geometry, UnreadableImage, read_image
from weldnet.errors import InputError


def cache_folder(folder: str | Path | None = None) -> Path:
    """Where decoded and drawn images are kept: `folder`, else $WELDNET_CACHE, else the user's cache folder.

    Everything below it can be deleted at any time.
    """
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "weldnet")
    return Path(folder or os.environ.get("WELDNET_CACHE") or default)


@dataclass(frozen=True)
class DecodedImages:
    """The outcome of `decode_images`.

    Attributes:
        images: uint8 (N, 3, H, W), memory-mapped read-only; the rows of unreadable files are zero.
        unreadable: for each file that could not be read, its index and the reason.
    """

    images: NDArray[np.uint8]
    unreadable: dict[int, str]


def decode_images(paths: Sequence[str], geometry: Geometry, folder: Path) -> DecodedImages:
    """Decodes files with all cores into one memory-mapped array, or finds the array of an earlier run.

    The array is found again by the files' paths, sizes and times of change, the geometry and the decoder's version.

    Args:
        paths: N files.
        geometry: the network's input.
        folder: the cache folder.

    Raises:
        InputError: the cache folder cannot be written.
    """
    target = folder / "images" / _key(paths, geometry)
    if _is_stale(target, paths, geometry):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _decode_into(target, paths, geometry)
        except OSError as error:
            raise InputError(
                f"the cache {target.parent} cannot be written: {error}; choose another with data.cache_dir"
            ) from error
    unreadable = json.loads(target.with_suffix(".json").read_text())
    return DecodedImages(
        np.load(target.with_suffix(".npy"), mmap_mode="r"), {int(row): why for row, why in unreadable.items()}
    )


def _is_stale(target: Path, paths: Sequence[str], geometry: Geometry) -> bool:
    """Whether there is no array, or one that lacks a file which can be read by now (a drive was away, say)."""
    if not target.with_suffix(".json").is_file():
        return True
    for row in json.loads(target.with_suffix(".json").read_text()):
        try:
            read_image(paths[int(row)], **asdict(geometry))
        except UnreadableImage:
            continue
        return True
    return False


def _key(paths: Sequence[str], geometry: Geometry) -> str:
    digest = hashlib.sha256(json.dumps([DECODER_VERSION, asdict(geometry)]).encode())
    for path in paths:
        try:
            stat = os.stat(path)
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
        except OSError:
            digest.update(f"{path}\0absent\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _decode_into(target: Path, paths: Sequence[str], geometry: Geometry) -> None:
    """Writes target.npy, then target.json, each under a temporary name that is renamed: the second says it is whole."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="building_") as building:
        array = Path(building) / "images.npy"
        shape = (len(paths), 3, geometry.height, geometry.width)
        images = np.lib.format.open_memmap(array, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # All of the room now: a disk that fills up under a memory map kills the process.
            with array.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, array.stat().st_size)
        unreadable: dict[int, str] = {}

        def decode(row: int) -> None:
            try:
                images[row] = read_image(paths[row], **asdict(geometry))
            except UnreadableImage as error:
                unreadable[row] = str(error)

        # Threads, not processes: Pillow decodes outside the interpreter's lock.
        with ThreadPoolExecutor() as pool:
            for _ in track(pool.map(decode, range(len(paths))), "decoding images", total=len(paths)):
                pass
        images.flush()
        (Path(building) / "unreadable.json").write_text(json.dumps(dict(sorted(unreadable.items()))))
        array.replace(target.with_suffix(".npy"))
        (Path(building) / "unreadable.json").replace(target.with_suffix(".json"))
