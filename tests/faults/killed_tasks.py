"""What is killed: a training, a cross-validation and a prediction; how each is resumed, and what must come of it."""

import hashlib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from drawing import SEAM, write_welds
from fork_server import Done

CLASSES = ("good", "pore")
RUN = "run"
"""The run folder, below the current one."""


@dataclass(frozen=True)
class Task:
    """A command that is killed.

    Attributes:
        command, arguments: what starts it.
        resumes_itself: the same command resumes it; otherwise `ckpt_path=RUN` does.
        read: what it gave, from its run folder; equal for equal runs.
    """

    command: str
    arguments: tuple[str, ...]
    resumes_itself: bool
    read: Callable[[Path], Any]

    def next_arguments(self, here: Path, killed: Done) -> tuple[str, ...]:
        """What a user types after a kill: what the command proposed, or else what the guide has."""
        lines = killed.out.splitlines() or [""]
        proposed = re.search(rf"weldnet-{self.command}'? (.+)$", lines[-1])
        if killed.code == 130 and proposed:
            return tuple(shlex.split(proposed[1]))
        if self.resumes_itself or not (here / RUN).exists():
            return self.arguments
        return (f"ckpt_path={RUN}",)


def make_recipe(home: Path, *, thorough: bool) -> list[str]:
    """The data and network of all tasks, below `home`; a small one unless the test is thorough."""
    write_welds(home / "welds", CLASSES, seams=range(12), shots=2)
    return [
        "data=folder",
        f"data.root={home / 'welds'}",
        f"data.group_pattern={SEAM}",
        "data.augmentation=weld",
        "data.image_size.height=32",
        "data.image_size.width=16",
        "data.batch_size=8",
        *(["model=resnet18"] if thorough else ["model=timm", "model.backbone=test_resnet"]),
        "model.weights=none",
        "trainer=cpu",
        "trainer.precision=32-true",
        "callbacks.dashboard=null",
    ]


def make_training(recipe: list[str]) -> Task:
    arguments = (*recipe, "trainer.max_epochs=3", f"output_dir={RUN}")
    return Task("train", arguments, resumes_itself=False, read=read_training)


def make_crossval(recipe: list[str]) -> Task:
    arguments = (*recipe, "trainer.max_epochs=2", "num_folds=2", f"output_dir={RUN}")
    return Task("crossval", arguments, resumes_itself=False, read=read_crossval)


def make_prediction(home: Path, trained: Path) -> Task:
    """A prediction of new photographs by a trained run, with copies by their verdicts."""
    write_welds(home / "photos", ("new",), seams=range(50, 100), shots=3, size=(600, 400))
    arguments = (f"ckpt_path={trained}", f"source={home / 'photos'}", "sort_into=sorted")
    return Task("predict", (*arguments, f"output_dir={RUN}", "resume=true"), resumes_itself=True, read=read_prediction)


def read_training(run: Path) -> dict[str, Any]:
    """Figures, predictions and weights of a training, to the last bit."""
    weights = {file.name: _digest_weights(file) for file in sorted((run / "checkpoints").iterdir())}
    return {
        "metrics": _without_digests(json.loads((run / "metrics.json").read_text())),
        "predictions": (run / "predictions.csv").read_text(),
        "weights": weights,
        "report": (run / "report.html").is_file() and (run / "report.json").is_file(),
    }


def read_crossval(run: Path) -> dict[str, Any]:
    return {
        "figures": _without_digests(json.loads((run / "crossval.json").read_text())),
        "predictions": (run / "predictions.csv").read_text(),
        "folds": sorted(folder.name for folder in run.glob("fold_*")),
    }


def read_prediction(run: Path) -> dict[str, Any]:
    """Rows and copies of a prediction; a batch of a different size rounds differently, by less than is kept here."""
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    table = (run / "predictions.csv").read_text().splitlines()
    assert [row["path"] for row in rows] == [line.partition(",")[0] for line in table[1:]], "the two files differ"
    copies = sorted(str(path.relative_to(run.parent)) for path in (run.parent / "sorted").rglob("*") if path.is_file())
    kept = ("path", "sha256", "predicted", "verdict", "unlike_training", "model_digest", "error")
    rounded = {row["path"]: {name: round(row[f"p_{name}"], 3) for name in CLASSES} for row in rows}
    return {
        "rows": sorted([[row[name] for name in kept] for row in rows], key=lambda row: str(row[0])),
        "probabilities": rounded,
        "copies": copies,
    }


def find_leftovers(here: Path, temporary: Path) -> list[str]:
    """What a finished command should have removed: temporary, unfinished and empty files, and locks."""
    left = [f"temporary folder: {path.name}" for path in temporary.iterdir()]
    for path in here.rglob("*"):
        # A lock of the cache stays: who removes one takes it from under a process that waits for it.
        in_cache = path.is_relative_to(here / "cache")
        is_lock = path.suffix == ".lock" or path.name == ".lock"
        is_empty = path.is_file() and not path.stat().st_size and not is_lock
        if path.suffix == ".tmp" or is_empty or (is_lock and not in_cache):
            left.append(str(path.relative_to(here)))
    return sorted(left)


def _without_digests(figures: Any) -> Any:
    """Figures without the digest of a checkpoint, which names its own folder."""
    if isinstance(figures, dict):
        return {key: _without_digests(value) for key, value in figures.items() if key != "checkpoint_digest"}
    return [_without_digests(each) for each in figures] if isinstance(figures, list) else figures


def _digest_weights(file: Path) -> str:
    weights = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()
