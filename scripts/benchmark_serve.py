"""A load test of weldnet-serve on loopback: its real command, one 1920 x 1080 photograph a request."""

import asyncio
import itertools
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_common import Options, draw_photographs
from rich.console import Console
from rich.table import Table

from weldnet.checkpoint import RECORD, Record, current_versions
from weldnet.data.images import Geometry
from weldnet.model.network import WeldNet
from weldnet.predictor import Predictor, load_engine

SECONDS = 10.0
"""Of each level, after one second that is not counted."""
CLIENTS = (1, 8, 32)
"""Connections kept alive, each of which sends its next photograph when it has the answer to the last."""
TOO_MANY = 96
"""Clients beyond `serve.max_queue`, 64."""
GOOD = 8
"""Clients whose latency is taken with and without hostile ones beside them."""
NUM_PHOTOGRAPHS = 32
BATCH = 8
"""Images scored at once, to see what micro-batches would give."""

HEAD = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = '--b\r\nContent-Disposition: form-data; name="files"; filename="{}"\r\n\r\n'

Answer = tuple[float, float, int]
"""When it was asked, how long it took, both in seconds, and its HTTP status."""


def write_checkpoint(file: Path) -> Path:
    """A ResNet50 at 300 x 30 with random weights."""
    torch.manual_seed(0)
    network, classes = WeldNet("resnet50", 4), [f"class_{index}" for index in range(4)]
    none = torch.zeros(0, dtype=torch.int64)
    record = Record(
        *(classes, "resnet50", True, asdict(Geometry()), "0" * 64, "none", none, none, none),
        *([], [], {}, "", current_versions(), None),
    )
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 0, RECORD: asdict(record)}, file)
    return file


def make_request(*files: tuple[str, bytes]) -> bytes:
    """The bytes of a request."""
    body = b"".join(PART.format(name).encode() + content + b"\r\n" for name, content in files) + b"--b--\r\n"
    return f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body


def claim_pixels(width: int, height: int) -> bytes:
    """A tiny PNG that claims to be a large one."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


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


async def exchange(port: int, requests: Sequence[bytes], stop: float, answers: list[Answer]) -> None:
    """One client: sends its requests in turn over one connection until `stop`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in itertools.cycle(requests):
        started = time.perf_counter()
        if started > stop:
            break
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head)
        assert length
        await reader.readexactly(int(length[1]))
        answers.append((started, time.perf_counter() - started, int(head.split()[1])))
        if answers[-1][2] == 429:
            # As the answer asks for.
            await asyncio.sleep(1)
    writer.close()


async def annoy(port: int, request: bytes, stop: float, wait_s: float) -> None:
    """One hostile client: opens, sends, waits a little, and leaves without a word."""
    while time.perf_counter() < stop:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            await asyncio.wait_for(reader.read(65536), wait_s)
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()
        await asyncio.sleep(0.02)


def list_hostile(photograph: bytes) -> list[tuple[bytes, float]]:
    """What each kind of hostile client sends, and for how many seconds it then waits."""
    whole = make_request(("a.jpg", photograph))
    return [
        (whole[:40], 1.0),
        (whole[: len(whole) // 2], 1.0),
        (os.urandom(1000) + b"\r\n\r\n", 1.0),
        (make_request(("bomb.png", claim_pixels(10_000, 10_000))), 5.0),
        (make_request(*[("a", b"x")] * 10_000), 5.0),
    ]


async def load(port: int, photographs: Sequence[bytes], num_clients: int, is_annoyed: bool) -> list[Answer]:
    """The answers that a level's clients got after the first second."""
    answers: list[Answer] = []
    begin = time.perf_counter() + 1
    stop = begin + SECONDS
    requests = [make_request(("a.jpg", photograph)) for photograph in photographs]
    clients: list[Coroutine[Any, Any, None]] = [
        exchange(port, requests[number % len(requests) :] + requests[: number % len(requests)], stop, answers)
        for number in range(num_clients)
    ]
    if is_annoyed:
        clients += [annoy(port, request, stop, wait_s) for request, wait_s in list_hostile(photographs[0])]
    await asyncio.gather(*clients)
    return [answer for answer in answers if answer[0] >= begin]


def summarise(answers: Sequence[Answer]) -> dict[str, Any]:
    """Rate and latencies of the answered requests, and how many had which status."""
    good = np.array([seconds for _, seconds, status in answers if status == 200])
    p50, p95, p99 = (1000 * np.percentile(good, (50, 95, 99))).tolist()
    statuses = Counter(str(status) for *_, status in answers)
    rate = len(good) / SECONDS
    return {"requests_per_s": rate, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "statuses": dict(statuses)}


def peak_memory(process: int) -> float:
    """Megabytes that a process has had in memory at once."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) / 1000


def measure_bare(checkpoint: Path, photographs: Sequence[bytes]) -> dict[str, float]:
    """Images per second without HTTP: judged one by one on all cores; scored on one core one by one, and by eight."""
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_photographs(folder, NUM_PHOTOGRAPHS)
        photographs = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))]
        checkpoint = write_checkpoint(folder / "random.ckpt")
        figures: dict[str, Any] = measure_bare(checkpoint, photographs)
        figures["photograph_kb"] = sum(map(len, photographs)) / len(photographs) / 1000
        figures["levels"] = levels = {}
        with serving(checkpoint, folder / "served") as (port, process):
            figures["idle_memory_mb"] = peak_memory(process)
            for number, is_annoyed in [*((each, False) for each in CLIENTS), (GOOD, True), (TOO_MANY, False)]:
                level = f"{number} clients" + (", hostile ones beside" if is_annoyed else "")
                levels[level] = summarise(asyncio.run(load(port, photographs, number, is_annoyed)))
                levels[level]["peak_memory_mb"] = peak_memory(process)
                print(f"{level}: {levels[level]['requests_per_s']:.1f} requests/s", flush=True)
    return figures


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    title = f"weldnet-serve, ResNet50 300 x 30, a 1920 x 1080 JPEG of {figures['photograph_kb']:.0f} kB a request"
    table = Table(title=title, title_justify="left")
    for column in ("clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "peak MB", "answers by status"):
        table.add_column(column, justify="left" if column in ("clients", "answers by status") else "right")
    for level, row in figures["levels"].items():
        numbers = [f"{row[key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms", "peak_memory_mb")]
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(row["statuses"].items()))
        table.add_row(level, f"{row['requests_per_s']:.1f}", *numbers, statuses)
    Console().print(table)
    print(f"without HTTP, one by one on all cores: {figures['bare_images_per_s']:.1f} images/s")
    alone, many = figures["scored_alone_per_s"], figures[f"scored_by_{BATCH}_per_s"]
    print(f"the network alone, on one core: {alone:.1f} images/s one by one, {many:.1f} by {BATCH}")
