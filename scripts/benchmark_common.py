"""What the benchmarks share: photographs to read, the plain way to read them, and the machine's name."""

import json
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
from rich.table import Table
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from weldnet.errors import InputError

BATCH = 32

ALLOWED = "manifest=FILE, tiles=FILE, json=FILE, compare=OLD.json, ckpt_path=RUN, repeats=N, steps=N"


@dataclass
class Options:
    manifest: Path | None = None
    tiles: Path | None = None
    json: Path | None = None
    compare: Path | None = None
    ckpt_path: Path | None = None
    repeats: int = 5
    steps: int = 12


def parse_options(arguments: list[str]) -> Options:
    """Reads key=value arguments."""
    options = Options()
    for argument in arguments:
        key, _, value = argument.partition("=")
        if not value or not hasattr(options, key):
            raise InputError(f"{argument}: allowed are {ALLOWED}")
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


def read_figures(file: Path) -> dict[str, Any]:
    """What an earlier run wrote by `json=FILE`."""
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"compare={file}: {error}; name a file that json=FILE wrote") from error
    if not isinstance(figures, dict):
        raise InputError(f"compare={file} holds no figures; name a file that json=FILE wrote")
    return figures


def list_moves(old: Any, new: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """The figures that differ, before and after, each after its keys; one that only one of them has is None there."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = dict.fromkeys([*new, *old])
        return [
            move for name in names for move in list_moves(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
        ]
    return [] if old == new else [(key, old, new)]


def show_moves(old: dict[str, Any], new: dict[str, Any]) -> Table:
    """What has moved since an earlier run, with the ratio of numbers."""
    table = Table("figure", "before", "now", "now / before", title="what moved", title_justify="left")
    for key, *pair in list_moves(old, new):
        is_ratio = all(isinstance(each, (int, float)) for each in pair) and pair[0]
        shown = [f"{each:.4g}" if isinstance(each, float) else str(each) for each in pair]
        table.add_row(key, *shown, f"{pair[1] / pair[0]:.2f} x" if is_ratio else "")
    return table


def peak_memory(process: int | str = "self") -> float:
    """MiB that a process has had in memory at once."""
    # Its ru_maxrss would begin with that of the process that started it.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) / 1024
