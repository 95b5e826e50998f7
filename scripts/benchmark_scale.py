"""How time and memory grow with the number of images; each figure is taken in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from benchmark_common import Options, peak_memory
from PIL import Image
from rich.table import Table
from scipy.ndimage import gaussian_filter
from torch.utils.data import BatchSampler

from weldnet.audit.audit import audit
from weldnet.console import print_table
from weldnet.data.batches import WeldImages, load_batches
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.images import Geometry
from weldnet.data.duplicates import find_alike
from weldnet.data.sources.found import Found
from weldnet.data.sources.source import Manifest
from weldnet.data.splits.leaks import fingerprint
from weldnet.data.storage import FileImages
from weldnet.data.thumbnails import THUMBNAIL_SIZE
from weldnet.report.audit_report import save_audit

SIZES = (10_000, 100_000, 1_000_000)
NUM_WORKERS = 4


def measure_manifest(size: int, folder: Path) -> dict[str, float]:
    """Reads, checks, groups and splits a manifest whose files do not exist: all that comes before the cache."""
    rng = np.random.default_rng(0)
    welds = rng.integers(0, size // 10, size)
    table = pl.DataFrame({"weld": welds, "label": (welds * 7 + rng.integers(0, 2, size)) % 8}).with_row_index("shot")
    manifest = folder / "manifest.csv"
    table.select(
        path=pl.format("photos/line_{}/weld_{}/shot_{}.jpg", pl.col("weld") % 17, "weld", "shot"),
        label=pl.format("class_{}", "label"),
        group=pl.format("weld_{}", "weld"),
    ).write_csv(manifest)
    before = peak_memory()
    data = WeldDataModule(Manifest(manifest=str(manifest)), seed=0)
    started = time.perf_counter()
    table = data.split()
    seconds = time.perf_counter() - started
    assert len(table) == size
    return {"seconds": seconds, "peak_mib": peak_memory(), "before_mib": before}


def measure_alike(size: int, folder: Path) -> dict[str, float]:
    """Searches thumbnails: one in a hundred is another's copy, darker and noisy, and one shows its spot shifted."""
    rng = np.random.default_rng(0)
    thumbnails = np.empty((size, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    for start in range(0, size, 10_000):
        part = thumbnails[start : start + 10_000]
        texture = gaussian_filter(rng.normal(size=(len(part), THUMBNAIL_SIZE + 1, THUMBNAIL_SIZE)), (0, 1, 1))
        texture = (texture * 120 + 128).clip(0, 255)
        part[:] = texture[:, :-1]
        number = len(part) // 100
        part[-number:] = part[:number] * 0.9 + rng.integers(0, 3, part[:number].shape)
        part[-2 * number : -number] = texture[number : 2 * number, 1:] * 0.7
    before = peak_memory()
    started = time.perf_counter()
    near, views = find_alike(thumbnails)
    return {
        "seconds": time.perf_counter() - started,
        "peak_mib": peak_memory(),
        "before_mib": before,
        "near_found": len(near),
        "views_found": len(views),
        "each_planted": size // 100,
    }


def measure_audit(size: int, folder: Path) -> dict[str, float]:
    """Audits as many drawn JPEGs of 64 x 64 pixels, no two alike, and writes the page; drawing them is not counted."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(size):
        texture = gaussian_filter(rng.normal(size=(64, 64)).astype(np.float32), 1.5) * 250 + 128
        path = folder / f"{index // 1000}" / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(texture.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        rows.append((str(path), f"class_{index % 7}", f"weld_{index % 997}"))
    samples = pl.DataFrame(rows, schema=["path", "label", "group"], orient="row")
    samples = samples.with_columns(split=pl.lit(None, pl.String))
    before = peak_memory()
    started, used = time.perf_counter(), time.process_time()
    audited = audit(Found(samples))
    save_audit(audited, folder)
    return {
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - used,
        "peak_mib": peak_memory(),
        "before_mib": before,
        "findings": len(audited.findings),
    }


def measure_workers(size: int, folder: Path) -> dict[str, float]:
    """The memory that worker processes have for themselves, all together, with data.cache=none."""
    files = []
    for index in range(8):
        files.append(folder / f"{'photograph_of_a_weld_' * 3}{index}.jpg")
        Image.fromarray(np.full((60, 40, 3), index, np.uint8)).save(files[-1])
    known = np.array([fingerprint(file.read_bytes()) for file in files])
    which = np.arange(size) % len(files)
    images = FileImages(pl.Series([str(files[index]) for index in which]), known[which], Geometry())
    dataset = WeldImages(images, np.arange(size), which)
    order = np.random.default_rng(0).permutation(size)[:6400].tolist()
    batches = BatchSampler(order, 32, drop_last=False)
    started, private = time.perf_counter(), 0.0
    for step, _ in enumerate(load_batches(dataset, batches, num_workers=NUM_WORKERS)):
        if step == 150:
            private = sum(private_memory(child) for child in children())
    return {"seconds": time.perf_counter() - started, "workers_mib": private}


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def private_memory(process: int) -> float:
    """MiB that no other process shares."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("Private")]
    return sum(kilobytes) / 1024


class Measure(NamedTuple):
    text: str
    take: Callable[[int, Path], dict[str, float]]
    sizes: tuple[int, ...] = SIZES


MEASURES = {
    "manifest": Measure("manifest read, checked, split", measure_manifest),
    "alike": Measure("search for copies and views", measure_alike, SIZES[:2]),
    "audit": Measure("audit of files, with its page", measure_audit, SIZES[:2]),
    "workers": Measure(f"{NUM_WORKERS} workers, data.cache=none", measure_workers),
}


def run(options: Options) -> dict[str, Any]:
    """Takes every measure at each of its sizes."""
    figures: dict[str, Any] = {}
    for name, measure in MEASURES.items():
        for size in measure.sizes:
            command = [sys.executable, __file__, name, str(size)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            figures[f"{name}_{size}"] = json.loads(done.stdout)
            print(f"{name} {size}: {done.stdout.strip()}", flush=True)
    return figures


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    table = Table(title="seconds, and MiB at the peak (workers: MiB of their own)", title_justify="left")
    table.add_column("images")
    for size in SIZES:
        table.add_column(f"{size:,}", justify="right")
    for name, measure in MEASURES.items():
        cells = [figures[f"{name}_{size}"] for size in measure.sizes]
        shown = [f"{c['seconds']:.1f} s, {c.get('peak_mib', c.get('workers_mib')):.0f} MiB" for c in cells]
        table.add_row(measure.text, *shown, *["not measured"] * (len(SIZES) - len(shown)))
    print_table(table)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as own_folder:
        print(json.dumps(MEASURES[sys.argv[1]].take(int(sys.argv[2]), Path(own_folder))))
