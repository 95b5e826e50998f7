"""From files to batches, on one core: the plain way, ours on the first epoch, ours from the cache."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from benchmark_common import Options, PlainImages, draw_photographs
from rich.table import Table
from torch.utils.data import BatchSampler, RandomSampler

from weldnet.console import print_table
from weldnet.data.batches import WeldImages, load_batches
from weldnet.data.cache import decode_images
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.images import Geometry
from weldnet.data.settings import BatchSettings
from weldnet.data.sources.manifest import read_manifest
from weldnet.data.sources.source import Synthetic

WAYS = {
    "plain": "Pillow: decode in full, resize",
    "first": "ours, first epoch: decode, keep",
    "cached": "ours, from the cache",
    "augmented": "ours, from the cache, augmentation weld",
}
MAX_IMAGES = 256
"""Images read in one turn."""


@contextmanager
def one_core() -> Iterator[None]:
    """Keeps this process and its threads to one core."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def time_plain(paths: pl.Series, cache: Path) -> float:
    """Images per second of one process that decodes file by file, as `PlainImages` does, without normalising."""
    started = time.perf_counter()
    for path in paths:
        PlainImages.resize(path)
    return len(paths) / (time.perf_counter() - started)


def time_first(paths: pl.Series, cache: Path) -> float:
    """Images per second into an empty cache."""
    started = time.perf_counter()
    decode_images(paths, Geometry(), cache / "empty")
    return len(paths) / (time.perf_counter() - started)


def time_cached(paths: pl.Series, cache: Path, *, augmented: bool = False, seconds: float = 1.0) -> float:
    """Images per second of shuffled training batches; the cache is filled before."""
    images = decode_images(paths, Geometry(), cache)
    data = WeldDataModule(Synthetic(), batch_settings=BatchSettings(augmentation="weld"), seed=0)
    dataset = WeldImages(images, np.arange(len(paths)), np.zeros(len(paths), np.int64))
    batches = load_batches(dataset, BatchSampler(RandomSampler(dataset), 32, drop_last=False))
    started, seen, step = time.perf_counter(), 0, 0
    while time.perf_counter() - started < seconds:
        for batch in batches:
            step += 1
            pictures, _ = data.augmented(batch, 0, step) if augmented else batch
            seen += len(pictures)
    return seen / (time.perf_counter() - started)


TIMERS: dict[str, Callable[[pl.Series, Path], float]] = {
    "plain": time_plain,
    "first": time_first,
    "cached": time_cached,
    "augmented": partial(time_cached, augmented=True),
}


def time_alone(way: str, manifest: Path, cache: Path) -> float:
    """One way in a process of its own, as a user's would be: memory that one way frees makes the next one faster."""
    command = [sys.executable, __file__, way, str(manifest), str(cache)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def run(options: Options) -> dict[str, Any]:
    """Interleaves the four ways and returns the figures."""
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = options.manifest or draw_photographs(folder)
        for turn in range(options.repeats):
            for way in WAYS:
                rates[way].append(time_alone(way, manifest, folder / "cache"))
            shutil.rmtree(folder / "cache" / "empty")
            print(
                f"turn {turn + 1}/{options.repeats}: " + ", ".join(f"{k} {v[-1]:.0f}" for k, v in rates.items()),
                flush=True,
            )
    figures: dict[str, Any] = {f"{way}_images_per_s_per_core": statistics.median(rates[way]) for way in WAYS}
    for way in list(WAYS)[1:]:
        ratios = [ours / plain for ours, plain in zip(rates[way], rates["plain"], strict=True)]
        figures[f"{way}_over_plain"] = statistics.median(ratios)
        figures[f"{way}_over_plain_range"] = [min(ratios), max(ratios)]
    return figures | {"images": str(options.manifest or "1920x1080 JPEG")}


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    table = Table(title=f"files to batches on one core, {figures['images']}", title_justify="left")
    for column in ("way", "images/s", "over plain", "range"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, text in WAYS.items():
        ratio, (low, high) = figures.get(f"{way}_over_plain", 1.0), figures.get(f"{way}_over_plain_range", (1.0, 1.0))
        table.add_row(
            text, f"{figures[f'{way}_images_per_s_per_core']:.0f}", f"{ratio:.1f} x", f"{low:.1f} to {high:.1f}"
        )
    print_table(table)


if __name__ == "__main__":
    wanted, own_manifest, own_cache = sys.argv[1:]
    chosen = read_manifest(own_manifest)["path"].sample(fraction=1, shuffle=True, seed=0).head(MAX_IMAGES)
    with one_core():
        print(TIMERS[wanted](chosen, Path(own_cache)))
