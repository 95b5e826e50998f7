"""Training on shared cores: how threads wait for one another, and what one busy process beside them costs."""

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from benchmark_common import Options
from rich.table import Table
from torch import nn
from torchvision import models

from weldnet.console import print_table
from weldnet.hardware import SPINS, WAITS

BATCH = 8

WAYS = {
    "spin, OpenMP's default": {},
    f"GOMP_SPINCOUNT={SPINS}, ours": {"GOMP_SPINCOUNT": SPINS},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}

BUSY = "while True: pass"


def train(steps: int, batch: int = BATCH) -> dict[str, float]:
    """Steps of a ResNet50 in float32 on one ready batch: images a second, and milliseconds of processor an image."""
    network = models.resnet50(num_classes=6).train().to(memory_format=torch.channels_last)
    optimizer, criterion = torch.optim.AdamW(network.parameters(), fused=True), nn.CrossEntropyLoss()
    images = torch.randn(batch, 3, 300, 30).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 6
    began, spent = 0.0, 0.0
    for step in range(steps + 1):
        if step == 1:
            began, spent = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        criterion(network(images), labels).backward()
        optimizer.step()
    seen = steps * batch
    return {
        "images_per_s": seen / (time.perf_counter() - began),
        "cpu_ms": 1000 * (time.process_time() - spent) / seen,
    }


def run(options: Options) -> dict[str, Any]:
    """Each way alone, as far as this machine is, and beside a busy process, in alternation."""
    plain = {name: value for name, value in os.environ.items() if name not in WAITS}
    found: dict[str, dict[str, list[dict[str, float]]]] = {way: {"alone": [], "beside": []} for way in WAYS}
    for turn in range(options.repeats):
        for beside in ("alone", "beside"):
            for way, variables in WAYS.items():
                with ExitStack() as stack:
                    if beside == "beside":
                        busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
                        stack.callback(busy.kill)
                    command = [sys.executable, str(Path(__file__)), str(options.steps)]
                    done = subprocess.run(command, env=plain | variables, stdout=subprocess.PIPE, check=True)
                found[way][beside].append(json.loads(done.stdout))
                load = os.getloadavg()[0]
                print(f"turn {turn + 1}, {beside}, {way}: {found[way][beside][-1]}, load {load:.1f}", flush=True)
    figures: dict[str, Any] = {}
    for way, rows in found.items():
        pairs = zip(rows["beside"], rows["alone"], strict=True)
        figures[way] = {"share_beside": statistics.median(a["images_per_s"] / b["images_per_s"] for a, b in pairs)}
        for beside, each in rows.items():
            figures[way][beside] = {key: statistics.median(row[key] for row in each) for key in each[0]}
    return {"ways": figures}


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    table = Table(
        title=f"training on shared cores, {figures['cores']} cores, {figures['device']}", title_justify="left"
    )
    for column in ("threads wait by", "images/s", "CPU an image", "beside a busy process", "CPU an image", "share"):
        table.add_column(column, justify="left" if column == "threads wait by" else "right")
    for way, row in figures["ways"].items():
        cells = []
        for beside in ("alone", "beside"):
            cells += [f"{row[beside]['images_per_s']:.2f}", f"{row[beside]['cpu_ms']:.0f} ms"]
        table.add_row(way, *cells, f"{row['share_beside']:.2f}")
    print_table(table)


if __name__ == "__main__":
    print(json.dumps(train(*map(int, sys.argv[1:]))))
