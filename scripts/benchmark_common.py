"""What the benchmarks share: photographs to read, the plain way to read them, and the machine's name."""

import os
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from weldnet.errors import InputError

BATCH = 32


@dataclass
class Options:
    manifest: Path | None = None
    json: Path | None = None
    ckpt_path: Path | None = None
    repeats: int = 5
    steps: int = 12


def parse_options(arguments: list[str]) -> Options:
    """Reads key=value arguments."""
    options = Options()
    for argument in arguments:
        key, _, value = argument.partition("=")
        if not value or not hasattr(options, key):
            raise InputError(f"{argument}: allowed are manifest=FILE, json=FILE, ckpt_path=RUN, repeats=N, steps=N")
        setattr(options, key, int(value) if key in ("repeats", "steps") else Path(value).absolute())
    return options


def draw_photographs(folder: Path, num_images: int = 128) -> Path:
    """1920 x 1080 JPEGs, quality 92, smooth shapes under camera-like noise, fixed seed; returns their manifest.

    The noise of 3 levels gives what Immerkaer's estimator finds in the median photograph of real welds: 1.6 levels.
    """

    def draw(index: int) -> dict[str, str]:
        rng = np.random.default_rng([0, index])
        small = rng.normal(120, 40, (9, 16, 3)).clip(0, 255).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize((1920, 1080), Image.Resampling.BICUBIC), np.float32)
        noisy = smooth + rng.normal(0, 3, (1080, 1920, 1)).astype(np.float32)
        name = f"photo_{index:04d}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name, quality=92)
        split = "val" if index % 32 >= 28 else "train"
        return {"path": name, "label": f"class_{index % 4}", "group": f"weld_{index % 32}", "split": split}

    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(draw, range(num_images)))
    pl.DataFrame(rows).write_csv(folder / "manifest.csv")
    return folder / "manifest.csv"


class PlainImages(Dataset[tuple[Tensor, int]]):
    """The origin's data set: decode, stretch, normalise, one file at a time."""

    def __init__(self, table: pl.DataFrame) -> None:
        self.paths = table["path"].to_list()
        classes = sorted(table["label"].unique())
        self.labels = [classes.index(label) for label in table["label"]]
        self.normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

    @staticmethod
    def resize(path: str) -> Tensor:
        """float (3, 300, 30) from 0 to 1."""
        image = transforms.functional.resize(Image.open(path).convert("RGB"), [300, 30])
        tensor: Tensor = transforms.functional.to_tensor(image)
        return tensor

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.normalise(self.resize(self.paths[index])), self.labels[index]


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "device": name,
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "date": str(date.today()),
    }


def peak_memory(process: int | str = "self") -> float:
    """MiB that a process has had in memory at once."""
    # Its ru_maxrss would begin with that of the process that started it.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) / 1024
