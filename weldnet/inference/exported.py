"""An export: a folder with a network and its card, treated as untrusted input, run on the CPU."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weldnet.errors import InputError, check_choice, first_line
from weldnet.files import find_leaving
from weldnet.inference.engines import PRECISIONS, Engine, Run, Scores, check_finite, import_extra, try_out
from weldnet.inference.model_card import ExportCard, ModelFacts, describe_running, read_card
from weldnet.inference.onnx_format import ONNX
from weldnet.inference.openvino_format import OPENVINO, OPENVINO_INT8

FORMATS = {each.name: each for each in (ONNX, OPENVINO, OPENVINO_INT8)}

CARD = "model.json"
MAX_CARD_BYTES = 2**20
MAX_NETWORK_BYTES = 2**31


class ExportEngine(Engine):
    """An export that is run by a runtime other than torch."""

    def __init__(self, facts: ModelFacts, run: Run) -> None:
        self.facts, self.run = facts, run

    def score(self, images: NDArray[np.uint8]) -> Scores:
        probabilities, distances = (outputs.astype(np.float64) for outputs in self.run(images))
        check_finite(probabilities)
        check_finite(distances)
        return Scores(probabilities, distances)


def load_export(folder: Path, *, device: str, precision: str) -> ExportEngine:
    """The engine of an export folder; nothing outside of the folder is read, whatever its files contain.

    An InputError where the folder is no export, incomplete or changed since it was written, does not run with this
    device (`auto`, `cpu`) or precision, or the runtime is not installed.
    """
    check_choice("precision", precision, PRECISIONS)
    if device not in ("auto", "cpu"):
        raise InputError(f"device={device}: an export runs on the CPU; allowed are auto, cpu")
    card, digest = read_export_card(folder)
    chosen = FORMATS[card.format]
    if precision not in chosen.precisions:
        others = ", ".join(each.name for each in FORMATS.values() if precision in each.precisions)
        raise InputError(
            f"precision={precision}: {folder} is an export in format={chosen.name}, which runs in "
            f"{', '.join(chosen.precisions)}; one that runs in {precision} is made by format={others}"
        )
    import_extra(chosen.packages[-1])
    contents = [_read_file(folder, name, MAX_NETWORK_BYTES) for name in chosen.files]
    for name, content in zip(chosen.files, contents, strict=True):
        if hashlib.sha256(content).hexdigest() != card.files.get(name):
            raise _damaged(folder, f"{name} is not the file that it was written with")
    try:
        run, runtime = chosen.open(contents, precision)
        facts = describe_running(
            card,
            calibrated=True,
            digest=digest,
            checkpoint_digest=card.checkpoint.digest,
            runtime=f"{runtime}, convolutions int8" if chosen.is_int8 else runtime,
        )
        engine = ExportEngine(facts, run)
        try_out(engine)
    # A runtime raises nearly anything at a damaged network; each means the same to the user.
    except Exception as error:
        raise _damaged(folder, f"its network does not run: {first_line(error)}") from error
    return engine


def read_export_card(folder: Path) -> tuple[ExportCard, str]:
    """The card of an export folder, and its SHA-256; an InputError where it is damaged."""
    content = _read_file(folder, CARD, MAX_CARD_BYTES)
    try:
        card = read_card(ExportCard, content)
        check_choice("format", card.format, [*FORMATS])
    except InputError as error:
        raise _damaged(folder, f"{CARD}: {error}") from error
    return card, hashlib.sha256(content).hexdigest()


def _read_file(folder: Path, name: str, max_bytes: int) -> bytes:
    file = folder / name
    try:
        if reason := find_leaving(folder)(str(file)):
            raise InputError(f"{file} is {reason}")
        if not file.is_file():
            raise _damaged(folder, f"it holds no file {name}")
        if file.stat().st_size > max_bytes:
            raise _damaged(folder, f"{name} is larger than {max_bytes // 2**20} MiB")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _damaged(folder: Path, reason: str) -> InputError:
    return InputError(f"{folder} is no export that runs: {reason}; make it again by weldnet-export")
