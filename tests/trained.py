"""A small trained and calibrated run for the tests of everything that starts from one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from calling import call
from drawing import SEAM, save_image, write_welds
from PIL import Image

CLASSES = ("good", "pore")

SMALL = [
    "data=folder",
    "data.root=welds",
    f"data.group_pattern={SEAM}",
    "model.backbone=resnet18",
    "model.weights=none",
    "data.image_size.height=32",
    "data.image_size.width=16",
    "data.batch_size=16",
    "optimizer.lr=2e-3",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=3",
    "callbacks.dashboard=null",
]
"""What `weldnet-train` takes for a ResNet18 on the `welds` of `write_welds`."""

TINY = [*SMALL, "model=timm", "model.backbone=test_resnet"]
"""The same with half a million weights, for tests of what a network of any size shows."""

QUIET = [*TINY, "logger.tensorboard=null"]
"""And without what TensorBoard would be given."""

DECISION = ["decision.max_escape_rate=0.25", "decision.max_false_reject_rate=0.25", "decision.confidence=0.8"]
"""Targets that so few images can certify."""


def train_small(folder: Path, *typed: str) -> Path:
    """Trains `folder/run` on `folder/welds`, good welds and pores, about ten seconds; returns the run.

    Its operating point accepts and rejects. The cache and the current directory are the folder's while it trains.

    Args:
        typed: further keys. With data.normalize=per_image the brightness no longer identifies the class, so pores
            get a dark bar, too.
    """
    write_welds(folder / "welds", CLASSES, seams=range(30), shots=4)
    if "data.normalize=per_image" in typed:
        for file in (folder / "welds" / "pore").iterdir():
            pixels = np.array(Image.open(file))
            pixels[12:28, 6:14] = 0
            save_image(file, pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WELDNET_CACHE", str(folder / "cache"))
        call("train", *SMALL, *DECISION, *typed, "output_dir=run")
    return folder / "run"


def copy_small(small: Path, folder: Path) -> Path:
    """Copies `run`, `welds` and the cache of `train_small` into a folder; the run's config names the first ones.

    Not last.ckpt, which only a resumed training reads: 134 MB.
    """
    for name in ("run", "welds", "cache"):
        shutil.copytree(small / name, folder / name, ignore=shutil.ignore_patterns("last.ckpt"))
    return folder
