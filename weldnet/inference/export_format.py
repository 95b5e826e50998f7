"""ExportFormat: what an export format consists of. A new one is a file beside this one and a row in `exported.py`."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weldnet.errors import InputError, propose_extra

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Run = Callable[[NDArray[np.uint8]], Sequence[NDArray[np.float32]]]
"""From images, uint8 (B, 3, H, W), to probabilities (B, C) and distances (B,); several threads may call it at once."""

Change = Callable[[Any], Any]


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
        precisions: that it runs in.
        is_int8: its convolutions are quantised, so that it has thresholds of its own.
        takes_photographs: its network may take photographs of any size and give verdicts.
    """

    name: str
    files: tuple[str, ...]
    packages: tuple[str, ...]
    write: Callable[["ExportedProgram", Path, Change | None], object]
    open: Callable[[Sequence[bytes], str], tuple[Run, str]]
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
