"""From files to verdicts: a plain PyTorch loop, a checkpoint and its exports; the models alone; memory."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_common import BATCH, Options, PlainImages, draw_photographs, peak_memory
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision import models

from weldnet.console import print_table
from weldnet.data.sources.manifest import read_manifest
from weldnet.inference.engines import Engine
from weldnet.inference.prediction_run import predict_into
from weldnet.inference.predictor import Predictor, load_engine

NUM_IMAGES = 512
"""Files in one turn; a smaller set is read again and again."""
NUM_ALONE = 1024
SIZES = (1_000, 20_000)

# The plain loop is Pillow, float32, batch 32, 2 workers.
WAYS = {
    "plain": "plain PyTorch",
    "float32": "checkpoint, float32",
    "bf16": "checkpoint, bf16",
    "onnx": "ONNX Runtime, float32",
    "openvino": "OpenVINO, float32",
    "openvino_bf16": "OpenVINO, bf16",
    "openvino_int8": "OpenVINO, int8",
}


def load(way: str, run: str, folder: Path) -> Engine:
    """The engine of one of our ways."""
    if way in ("float32", "bf16"):
        return load_engine(run, precision=way)
    export = way.removesuffix("_bf16")
    return load_engine(str(folder / export), precision="float32" if export == way else "bf16")


def time_plain(manifest: Path, num_images: int) -> float:
    """Images per second of the loop that most people write; the worker processes' start counts, as it does for them."""
    table = read_manifest(manifest)
    table = table[np.arange(num_images) % len(table)]
    network = models.resnet50(num_classes=table["label"].n_unique()).eval()
    with torch.inference_mode():
        network(torch.rand(BATCH, 3, 300, 30))
        started = time.perf_counter()
        for images, _ in DataLoader(PlainImages(table), BATCH, num_workers=2):
            network(images).softmax(dim=1).argmax(dim=1).tolist()
    return num_images / (time.perf_counter() - started)


def time_ours(engine: Engine, manifest: Path, num_images: int) -> float:
    """Images per second of `weldnet-predict`, both files of predictions included."""
    table = read_manifest(manifest)
    paths = table["path"][np.arange(num_images) % len(table)].to_list()
    with tempfile.TemporaryDirectory() as name, Predictor(engine) as predictor:
        list(predictor.predict_files(paths[: BATCH * predictor.num_threads]))
        started = time.perf_counter()
        predict_into(Path(name), predictor, paths, "/")
        return num_images / (time.perf_counter() - started)


def time_alone(engine: Engine) -> float:
    """Images per second of scoring ready arrays, as the predictor does: a batch on each core."""
    geometry = engine.facts.geometry
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 3, geometry.height, geometry.width), np.uint8)
    with Predictor(engine) as predictor:
        list(predictor.pool.map(lambda _: engine.score(images), range(2 * predictor.num_threads)))
        started = time.perf_counter()
        list(predictor.pool.map(lambda _: engine.score(images), range(NUM_ALONE // BATCH)))
    return NUM_ALONE / (time.perf_counter() - started)


def time_eager() -> float:
    """Images per second of the plain network on ready tensors, all cores on each batch."""
    network, images = models.resnet50().eval(), torch.rand(BATCH, 3, 300, 30)
    with torch.inference_mode():
        network(images)
        started = time.perf_counter()
        for _ in range(NUM_ALONE // BATCH):
            network(images)
    return NUM_ALONE / (time.perf_counter() - started)


def measure(way: str, run: str, folder: Path, manifest: Path, num_images: int) -> dict[str, float]:
    """One way in this process."""
    if way == "plain":
        return {"files": time_plain(manifest, num_images), "alone": time_eager()}
    engine = load(way, run, folder)
    files = time_ours(engine, manifest, num_images)
    alone = time_alone(engine) if num_images == NUM_IMAGES else 0.0
    return {"files": files, "alone": alone, "own_peak_mib": peak_memory()}


def measure_apart(way: str, run: str, folder: Path, manifest: Path, num_images: int = NUM_IMAGES) -> dict[str, float]:
    """One way in a process of its own; `peak_mib`: the largest sum over it and its workers, pages in common shared."""
    command = [sys.executable, __file__, way, run, str(folder), str(manifest), str(num_images)]
    # Set for our sake it would slow the plain loop.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    peak, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.2):
            peak = max(peak, sum(map(proportional_memory, family(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    printed, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    figures: dict[str, float] = json.loads(printed.splitlines()[-1])
    return figures | {"peak_mib": peak}


def family(process: int) -> list[int]:
    """A process and all below it."""
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        below = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:
        return [process]
    return [process, *(pid for child in below for pid in family(child))]


def proportional_memory(process: int) -> float:
    """MiB, a page that n processes share counted as 1/n; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def prepare(options: Options, folder: Path) -> tuple[Path, str]:
    """The manifest, and the run: the one given, or one epoch on the manifest; its exports are made in the folder."""
    manifest = options.manifest or draw_photographs(folder)
    run = str(options.ckpt_path or folder / "run")
    commands = Path(sys.executable).parent
    data = ["data=manifest", f"data.manifest={manifest}"]
    if options.ckpt_path is None:
        settings = ["model.weights=none", "trainer.max_epochs=1", "test=false", "callbacks.dashboard=null"]
        subprocess.run([str(commands / "weldnet-train"), *data, *settings, f"output_dir={run}"], check=True)
    # An untrained network may lose what it has not learned; its speed is the same.
    loose = [f"export.{key}=1" for key in ("max_accuracy_drop", "max_escape_increase", "max_verdict_changes")]
    for kind in ("onnx", "openvino", "openvino_int8"):
        command = [
            str(commands / "weldnet-export"),
            f"ckpt_path={run}",
            f"format={kind}",
            f"output_dir={folder / kind}",
        ]
        is_loose = kind == "openvino_int8" and options.ckpt_path is None
        subprocess.run([*command, *(loose if is_loose else [])], check=True)
    return manifest, run


def run(options: Options) -> dict[str, Any]:
    """Interleaves all ways, then measures the memory for many images."""
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, ckpt_path = prepare(options, folder)
        for turn in range(options.repeats):
            for way in WAYS:
                taken[way].append(measure_apart(way, ckpt_path, folder, manifest))
            shown = ", ".join(f"{way} {rows[-1]['files']:.0f}" for way, rows in taken.items())
            print(f"turn {turn + 1}/{options.repeats}: {shown}", flush=True)
        memory = {size: measure_apart("float32", ckpt_path, folder, manifest, size)["own_peak_mib"] for size in SIZES}
    figures: dict[str, Any] = {f"peak_mib_{size}_images": value for size, value in memory.items()}
    figures["peak_ratio"] = memory[SIZES[1]] / memory[SIZES[0]]
    for way, rows in taken.items():
        for key in ("files", "alone", "peak_mib"):
            figures[f"{way}_{key}"] = statistics.median(row[key] for row in rows)
        for key in ("files", "alone"):
            ratios = [row[key] / plain[key] for row, plain in zip(rows, taken["plain"], strict=True)]
            figures[f"{way}_{key}_over_plain"] = statistics.median(ratios)
            figures[f"{way}_{key}_over_plain_range"] = [min(ratios), max(ratios)]
    return figures | {"images": str(options.manifest or "1920x1080 JPEG")}


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    table = Table(
        title=f"files to verdicts, {figures['images']}, {figures['cores']} cores",
        title_justify="left",
        caption=f"{SIZES[0]:,} images: {figures[f'peak_mib_{SIZES[0]}_images']:.0f} MiB at the peak; {SIZES[1]:,}: "
        f"{figures[f'peak_mib_{SIZES[1]}_images']:.0f} MiB, {figures['peak_ratio']:.3f} x",
        caption_justify="left",
    )
    for column in ("way", "images/s", "over plain", "alone", "over eager", "MiB"):
        table.add_column(column, justify="left" if column == "way" else "right", no_wrap=True)
    for way, text in WAYS.items():
        cells = []
        for key in ("files", "alone"):
            low, high = figures[f"{way}_{key}_over_plain_range"]
            cells += [
                f"{figures[f'{way}_{key}']:.0f}",
                f"{figures[f'{way}_{key}_over_plain']:.1f} ({low:.1f}-{high:.1f})",
            ]
        table.add_row(text, *cells, f"{figures[f'{way}_peak_mib']:.0f}")
    print_table(table)


if __name__ == "__main__":
    chosen, own_run, own_folder, own_manifest, count = sys.argv[1:]
    print(json.dumps(measure(chosen, own_run, Path(own_folder), Path(own_manifest), int(count))))
