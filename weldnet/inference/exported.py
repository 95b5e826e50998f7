"""An export: a folder with a network for ONNX Runtime or OpenVINO, read as a stranger's, run on the CPU."""

import hashlib
import importlib
import os
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from weldnet.data.file_states import find_leaving
from weldnet.errors import InputError, check_choice
from weldnet.hardware import available_cores
from weldnet.inference.engines import PRECISIONS, Engine, Scores, check_finite, first_line, try_out
from weldnet.inference.model_card import ExportCard, ModelFacts, describe_running, read_card

Format = Literal["onnx", "openvino", "openvino_int8"]

RECORD = "model.json"
FILES: dict[str, tuple[str, ...]] = {
    "onnx": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "openvino_int8": ("model.xml", "model.bin"),
}
"""The network's files by format; no name is ever taken from a record."""

MAX_RECORD_BYTES = 2**20
MAX_NETWORK_BYTES = 2**31


class OnnxEngine:
    """A network in ONNX Runtime, one core a call.

    Args:
        facts: what its record says.
        network: the content of `model.onnx`.
    """

    def __init__(self, facts: ModelFacts, network: bytes) -> None:
        onnxruntime = import_extra("onnxruntime")
        # The key that weights in another file need: the runtime would open that file.
        if b"location" in network:
            raise InputError("its weights lie in another file, which is never read")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Its errors are raised as well; only they are shown.
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.facts = facts.model_copy(update={"runtime": f"onnxruntime {onnxruntime.__version__} float32"})

    def score(self, images: NDArray[np.uint8]) -> Scores:
        return _read_scores(*self.session.run(["probabilities", "distance"], {"images": images}))


class OpenVinoEngine:
    """A network in OpenVINO, one core a call.

    Args:
        facts: what its record says.
        precision: of what is not int8.
        network, weights: the contents of `model.xml` and `model.bin`.
    """

    def __init__(self, facts: ModelFacts, precision: str, network: bytes, weights: bytes) -> None:
        openvino = import_extra("openvino")
        # It would read other formats as well, such as ONNX with its weights in another file.
        if not network.startswith(b"<?xml"):
            raise InputError("its network is no XML")
        core, cores = openvino.Core(), available_cores()
        settings = {
            # Left to itself it takes bfloat16 wherever the hardware multiplies it.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "NUM_STREAMS": cores,
            "INFERENCE_NUM_THREADS": cores,
        }
        self.compiled = core.compile_model(core.read_model(network, weights), "CPU", settings)
        self.own = threading.local()
        # What it really computes in: not every processor has bfloat16.
        used = self.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        words = {"f32": "float32", "bf16": "bf16"}[used]
        self.facts = facts.model_copy(update={"runtime": f"openvino {openvino.__version__.split('-')[0]} {words}"})

    def score(self, images: NDArray[np.uint8]) -> Scores:
        if not hasattr(self.own, "request"):
            self.own.request = self.compiled.create_infer_request()
        results = self.own.request.infer({"images": images}, share_inputs=True)
        return _read_scores(results["probabilities"], results["distance"])


def load_export(folder: Path, *, device: str, precision: str) -> Engine:
    """The engine of an export folder; nothing outside of the folder is read, whatever its files say.

    Args:
        device: `auto` or `cpu`.
        precision: `float32`, or `bf16` with OpenVINO; convolutions in int8 stay int8.

    Raises:
        InputError: the folder is no export, incomplete or changed since it was written; it does not run with this
            device or precision; or the runtime is not installed.
    """
    check_choice("precision", precision, PRECISIONS)
    if device not in ("auto", "cpu"):
        raise InputError(f"device={device}: an export runs on the CPU; allowed are auto, cpu")
    record, digest = read_record(folder)
    if record.format == "onnx" and precision != "float32":
        raise InputError(
            f"precision={precision}: {folder} is an ONNX export and runs in float32; allowed is precision=float32, and "
            "an export that runs in bf16 is made by format=openvino"
        )
    import_extra("onnxruntime" if record.format == "onnx" else "openvino")
    contents = [_read_file(folder, name, MAX_NETWORK_BYTES) for name in FILES[record.format]]
    for name, content in zip(FILES[record.format], contents, strict=True):
        if hashlib.sha256(content).hexdigest() != record.files.get(name):
            raise _damaged(folder, f"{name} is not the file that it was written with")
    facts = describe_running(
        record, calibrated=True, digest=digest, checkpoint_digest=record.checkpoint.digest, runtime=""
    )
    try:
        onnx = record.format == "onnx"
        engine = OnnxEngine(facts, *contents) if onnx else OpenVinoEngine(facts, precision, *contents)
        try_out(engine)
    # A runtime raises nearly anything at a damaged network; each means the same to the user.
    except Exception as error:
        raise _damaged(folder, f"its network does not run: {first_line(error)}") from error
    if record.format == "openvino_int8":
        engine.facts = engine.facts.model_copy(update={"runtime": f"{engine.facts.runtime}, convolutions int8"})
    return engine


def read_record(folder: Path) -> tuple[ExportCard, str]:
    """The record of an export folder, and its SHA-256.

    Raises:
        InputError: there is none, or it is damaged.
    """
    content = _read_file(folder, RECORD, MAX_RECORD_BYTES)
    try:
        record = read_card(ExportCard, content)
        check_choice("format", record.format, [*FILES])
    except InputError as error:
        raise _damaged(folder, f"{RECORD}: {error}") from error
    return record, hashlib.sha256(content).hexdigest()


def import_extra(name: str) -> Any:
    """A module of the extra `export`.

    Raises:
        InputError: it is not installed.
    """
    # openvino reports every import to an analytics service, unless this package is not there to do it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    # onnxruntime reports, too, and notes an id in the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"exports need {name}: pip install 'weldnet[export]'") from error


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


def _read_scores(probabilities: NDArray[np.float32], distances: NDArray[np.float32]) -> Scores:
    for outputs in (scores := Scores(probabilities.astype(np.float64), distances.astype(np.float64))):
        check_finite(outputs)
    return scores


def _damaged(folder: Path, reason: str) -> InputError:
    return InputError(f"{folder} is no export that runs: {reason}; make it again by weldnet-export")
