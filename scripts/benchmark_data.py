"""From files to batches, on one core: the plain way, ours on the first epoch, ours from the cache."""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch
from benchmark_common import Options, PlainImages, draw_photographs
from rich.console import Console
from rich.table import Table

from weldnet.data.cache import decode_images
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.images import Geometry
from weldnet.data.manifest import read_manifest

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


def time_plain(paths: pl.Series) -> float:
    """Images per second of one process that decodes file by file, as `PlainImages` does, without normalising."""
    resize = PlainImages.resize
    started = time.perf_counter()
    for path in paths:
        resize(path)
    return len(paths) / (time.perf_counter() - started)


def time_first(paths: pl.Series, cache: Path) -> float:
    """Images per second into an empty cache."""
    started = time.perf_counter()
    decode_images(paths, Geometry(), cache)
    return len(paths) / (time.perf_counter() - started)


def time_cached(data: WeldDataModule, seconds: float = 1.0, *, augmented: bool = False) -> float:
    """Images per second of shuffled training batches."""
    started, seen, step = time.perf_counter(), 0, 0
    while time.perf_counter() - started < seconds:
        for batch in data.train_dataloader():
            step += 1
            images, _ = data.augmented(batch, 0, step) if augmented else batch
            seen += len(images)
    return seen / (time.perf_counter() - started)


def run(options: Options) -> dict[str, Any]:
    """Interleaves the four ways and returns the figures."""
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name, one_core():
        folder = Path(name)
        manifest = options.manifest or draw_photographs(folder)
        paths = read_manifest(manifest)["path"].sample(fraction=1, shuffle=True, seed=0).head(MAX_IMAGES)
        data = WeldDataModule(
            "manifest", manifest=manifest, augmentation="weld", cache_dir=folder / "cache", allow_leak=True
        )
        data.setup()
        for turn in range(options.repeats):
            rates["plain"].append(time_plain(paths))
            rates["first"].append(time_first(paths, folder / "empty"))
            shutil.rmtree(folder / "empty")
            rates["cached"].append(time_cached(data))
            rates["augmented"].append(time_cached(data, augmented=True))
            print(
                f"turn {turn + 1}/{options.repeats}: " + ", ".join(f"{k} {v[-1]:.0f}" for k, v in rates.items()),
                flush=True,
            )
    figures: dict[str, Any] = {f"{way}_images_per_s_per_core": statistics.median(rates[way]) for way in WAYS}
    for way in list(WAYS)[1:]:
        ratios = [ours / plain for ours, plain in zip(rates[way], rates["plain"], strict=True)]
        figures[f"{way}_over_plain"] = statistics.median(ratios)
        figures[f"{way}_over_plain_range"] = [min(ratios), max(ratios)]
    return figures | {"num_images": len(paths), "images": str(options.manifest or "1920x1080 JPEG")}


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
    Console().print(table)
