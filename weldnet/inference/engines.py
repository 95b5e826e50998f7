"""What turns images into scores: a checkpoint run by torch, or an export in a format that is written and read again."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from weldnet.errors import InputError, propose_extra
from weldnet.evaluation.arrays import Floats
from weldnet.inference.model_card import ModelFacts

if TYPE_CHECKING:
    from torch.export import ExportedProgram

PRECISIONS = ("float32", "bf16")

Run = Callable[[NDArray[np.uint8]], Sequence[NDArray[np.float32]]]
"""From images, uint8 (B, 3, H, W), to probabilities (B, C) and distances (B,); several threads may call it at once."""

Change = Callable[[Any], Any]


class Scores(NamedTuple):
    """Of B images, float64: calibrated probabilities (B, C); distances (B,), above 1 unlike training, nan unknown."""

    probabilities: Floats
    distances: Floats


class Engine(Protocol):
    """A loaded model; several threads may score at once. Engines inherit from it."""

    facts: ModelFacts
    has_gradients: bool = False
    """Whether it is a `TorchEngine`, so that heatmaps can be drawn."""

    def enter_thread(self) -> None:
        """Prepares a thread that will score, on one core."""
        return

    def score(self, images: NDArray[np.uint8]) -> Scores:
        """Scores uint8 (B, 3, H, W), RGB, of the model's geometry, B at least 1."""


def try_out(engine: Engine) -> None:
    """Scores two black images, so that a network that does not fit its card is refused before any work."""
    facts = engine.facts
    scores = engine.score(np.zeros((2, 3, facts.geometry.height, facts.geometry.width), np.uint8))
    if scores.probabilities.shape != (2, len(facts.classes)) or scores.distances.shape != (2,):
        raise InputError(f"it does not give {len(facts.classes)} probabilities and a distance for each image")


def check_finite(outputs: Floats) -> None:
    """Raises an InputError where outputs are not finite numbers."""
    if not np.isfinite(outputs).all():
        raise InputError("the network's outputs are not finite numbers; its training has diverged")


@dataclass(frozen=True)
class ExportFormat:
    """How a network is written for a runtime, and read again.

    Attributes:
        name: as a user types it.
        files: of the network, in the export's folder; no name is ever taken from a record.
        packages: that it needs, all of the extra `export`; the last one runs it.
        write: makes the files in a folder from the program that torch.export made, with input `images` and outputs
            `probabilities` and `distance`, or what takes photographs. It is given what changes the network on its way:
            quantises it, or describes it.
        open: from the contents of the files and a precision to what runs them and its name in words. The files are
            untrusted: nothing else may be read. An error of any kind means that they are damaged.
        open_alone: from the export's folder to what gives the outputs by name for `images`. Its source is a part of
            the export's `check.py`: it may use the last package, `Path` and `Any`, and nothing of weldnet.
        runtime: where and how it runs, for the README of an export; `{version}` is that of the last package.
        precisions: that it runs in.
        is_int8: its convolutions are quantised, so that it has thresholds of its own.
        takes_photographs: its network may take photographs of any size and give verdicts.
    """

    name: str
    files: tuple[str, ...]
    packages: tuple[str, ...]
    write: Callable[["ExportedProgram", Path, Change | None], object]
    open: Callable[[Sequence[bytes], str], tuple[Run, str]]
    open_alone: Callable[[Path], Callable[[Any], Mapping[str, Any]]]
    runtime: str
    precisions: tuple[str, ...] = ("float32",)
    is_int8: bool = False
    takes_photographs: bool = False


def import_extra(name: str) -> Any:
    """A module of the extra `export`; an InputError where it is not installed."""
    # openvino reports every import to an analytics service, unless this package is not there to do it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    # onnxruntime reports, too, and notes an id in the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"exports need {name}; type {propose_extra('export')}") from error
