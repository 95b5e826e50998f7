"""A load test of weldnet-serve on loopback: its real command, one 1920 x 1080 photograph a request."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_clients import Answer, load, make_request
from benchmark_common import Options, draw_photographs, peak_memory
from rich.table import Table

from weldnet.console import print_table
from weldnet.data.decode.images import Geometry
from weldnet.inference.checkpoint import RECORD
from weldnet.inference.predictor import Predictor, load_engine
from weldnet.inference.trained_card import TrainedCard, current_versions
from weldnet.model.network import WeldNet

SECONDS = 10.0
"""Of each level, after one second that is not counted."""
CLIENTS = (1, 8, 32)
"""Connections kept alive, each of which sends its next photograph when it has the answer to the last."""
TOO_MANY = 96
"""Clients beyond `serve.max_queue`, 64."""
NUM_PHOTOGRAPHS = 32
BATCH = 8
"""Images scored at once, to see what micro-batches would give."""


def write_checkpoint(file: Path) -> Path:
    """A ResNet50 at 300 x 30 with random weights."""
    torch.manual_seed(0)
    network, classes = WeldNet("resnet50", 4), [f"class_{index}" for index in range(4)]
    none = torch.zeros(0, dtype=torch.int64)
    card = TrainedCard(
        classes=classes,
        geometry=Geometry(),
        vocabulary={},
        split_digest="0" * 64,
        versions=current_versions(),
        git_commit=None,
        backbone="resnet50",
        channels_last=True,
        validation_groups="none",
        fingerprints=none,
        validation_fingerprints=none,
        groups=none,
        leaks=[],
        good_classes=[],
        config="",
    )
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 0, RECORD: card.to_plain()}, file)
    return file


@contextmanager
def serving(checkpoint: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """The real command, within; its port and process."""
    command = [str(Path(sys.executable).with_name("weldnet-serve")), f"ckpt_path={checkpoint}", "port=0", "device=cpu"]
    process = subprocess.Popen(
        [*command, f"output_dir={folder}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout
        found = re.search(r":(\d+)  ", process.stdout.readline())
        assert found, "weldnet-serve did not start"
        yield int(found[1]), process.pid
    finally:
        process.terminate()
        process.wait(60)


def measure_level(port: int, requests: Sequence[bytes], num_clients: int) -> dict[str, Any]:
    """The figures of a level, after its first second."""
    begin = time.perf_counter() + 1
    stop = begin + SECONDS
    answers = asyncio.run(load(port, requests, num_clients, stop))
    return summarise([answer for answer in answers if answer[0] >= begin])


def summarise(answers: Sequence[Answer]) -> dict[str, Any]:
    """Rate and latencies of the answered requests, and how many had which status."""
    good = np.array([seconds for _, seconds, status in answers if status == 200])
    p50, p95, p99 = (1000 * np.percentile(good, (50, 95, 99))).tolist()
    statuses = Counter(str(status) for *_, status in answers)
    rate = len(good) / SECONDS
    return {"requests_per_s": rate, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "statuses": dict(statuses)}


def list_cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


def keep_to(cores: Sequence[int]) -> None:
    """Runs this process, and those that it starts from here on, on these cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def measure_bare(checkpoint: Path, photographs: Sequence[bytes]) -> dict[str, float]:
    """Images per second without HTTP: predicted singly on all cores; scored on one core singly, and by eight."""
    engine = load_engine(str(checkpoint), device="cpu")

    def rate(work: Callable[[], int]) -> float:
        work()
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS / 2:
            done += work()
        return done / (time.perf_counter() - started)

    with Predictor(engine) as predictor:

        def judge_all() -> int:
            jobs = [predictor.pool.submit(predictor.predict_contents, ["a"], [each]) for each in photographs]
            return sum(len(job.result()) for job in jobs)

        decoded = [predictor.decode(content).image for content in photographs[:BATCH]]
        images = np.stack([image for image in decoded if image is not None])
        one = rate(lambda: predictor.pool.submit(lambda: len(engine.score(images[:1]).distances)).result())
        many = rate(lambda: predictor.pool.submit(lambda: len(engine.score(images).distances)).result())
        return {"bare_images_per_s": rate(judge_all), "scored_alone_per_s": one, f"scored_by_{BATCH}_per_s": many}


def run(options: Options) -> dict[str, Any]:
    """Loads the server level by level and returns the figures."""
    # The clients' own work, on the last core, takes nothing from the server.
    *served, last = list_cores()
    keep_to(served or [last])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_photographs(folder, NUM_PHOTOGRAPHS)
        photographs = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))]
        checkpoint = write_checkpoint(folder / "random.ckpt")
        figures: dict[str, Any] = {"server_cores": len(served) or 1} | measure_bare(checkpoint, photographs)
        figures["photograph_kb"] = sum(map(len, photographs)) / len(photographs) / 1000
        figures["levels"] = levels = {}
        requests = [make_request(("a.jpg", photograph)) for photograph in photographs]
        with serving(checkpoint, folder / "served") as (port, process):
            keep_to([last])
            figures["idle_memory_mib"] = peak_memory(process)
            for level in (*CLIENTS, TOO_MANY):
                levels[level] = measure_level(port, requests, level)
                levels[level]["peak_memory_mib"] = peak_memory(process)
                print(f"{level}: {levels[level]['requests_per_s']:.1f} requests/s", flush=True)
    keep_to([*served, last])
    return figures


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    title = f"weldnet-serve, ResNet50 300 x 30, a 1920 x 1080 JPEG of {figures['photograph_kb']:.0f} kB a request"
    table = Table(title=title, title_justify="left")
    columns = ("clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "peak MiB", "answers by status")
    for column in columns:
        table.add_column(column, justify="left" if column in ("clients", "answers by status") else "right")
    for level, row in figures["levels"].items():
        keys = ("p50_ms", "p95_ms", "p99_ms", "peak_memory_mib")
        numbers = [f"{row[key]:.0f}" for key in keys]
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(row["statuses"].items()))
        table.add_row(str(level), f"{row['requests_per_s']:.1f}", *numbers, statuses)
    print_table(table)
    print(f"the server has {figures['server_cores']} cores, all clients have another")
    print(f"without HTTP, one by one on the server's cores: {figures['bare_images_per_s']:.1f} images/s")
    alone, many = figures["scored_alone_per_s"], figures[f"scored_by_{BATCH}_per_s"]
    print(f"the network alone, on one core: {alone:.1f} images/s one by one, {many:.1f} by {BATCH}")
