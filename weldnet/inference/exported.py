"""An export: a folder with a network for ONNX Runtime or OpenVINO, read as a stranger's, run on the CPU."""

import hashlib
import importlib
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weldnet.data.decode.images import Geometry
from weldnet.data.file_states import find_leaving
from weldnet.errors import InputError, check_choice
from weldnet.evaluation.decision import OperatingPoint
from weldnet.hardware import available_cores
from weldnet.inference.engines import PRECISIONS, Engine, ModelFacts, Scores, check_finite, first_line, try_out

Format = Literal["onnx", "openvino", "openvino_int8"]

RECORD = "model.json"
FILES: dict[Format, tuple[str, ...]] = {
    "onnx": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "openvino_int8": ("model.xml", "model.bin"),
}
"""The network's files by format; no name is ever taken from a record."""

MAX_RECORD_BYTES = 2**20
MAX_NETWORK_BYTES = 2**31


class Origin(BaseModel):
    """The checkpoint that an export comes from: its file's name and SHA-256."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str
    digest: str


class ExportRecord(BaseModel):
    """What `model.json` holds.

    Attributes:
        format: a key of `FILES`.
        classes: C names, in the order of the probabilities.
        geometry: how files become the network's input.
        temperature: that the network divides its logits by.
        point: the thresholds, of this network's own scores.
        vocabulary: number and name in ISO 6520-1 by class, for those that have one.
        files: SHA-256 of each of the network's files.
        checkpoint: it comes from.
        split_digest: of the data that it was trained, calibrated and measured on.
        versions: of the packages that made it.
        git_commit: of the weldnet that made it; None outside a checkout.
        date: when it was made, ISO 8601, UTC.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    format_version: Literal[1] = 1
    format: Format
    classes: tuple[str, ...] = Field(min_length=1)
    geometry: Geometry
    temperature: float = Field(gt=0)
    point: OperatingPoint
    vocabulary: dict[str, str]
    files: dict[str, str]
    checkpoint: Origin
    split_digest: str
    versions: dict[str, str]
    git_commit: str | None
    date: str


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
        self.facts = replace(facts, runtime=f"onnxruntime {onnxruntime.__version__} float32")

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
        self.facts = replace(facts, runtime=f"openvino {openvino.__version__.split('-')[0]} {words}")

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
    facts = _to_facts(record, digest)
    try:
        onnx = record.format == "onnx"
        engine = OnnxEngine(facts, *contents) if onnx else OpenVinoEngine(facts, precision, *contents)
        try_out(engine)
    # A runtime raises nearly anything at a damaged network; each means the same to the user.
    except Exception as error:
        raise _damaged(folder, f"its network does not run: {first_line(error)}") from error
    if record.format == "openvino_int8":
        engine.facts = replace(engine.facts, runtime=f"{engine.facts.runtime}, convolutions int8")
    return engine


def read_record(folder: Path) -> tuple[ExportRecord, str]:
    """The record of an export folder, and its SHA-256.

    Raises:
        InputError: there is none, or it is damaged.
    """
    content = _read_file(folder, RECORD, MAX_RECORD_BYTES)
    try:
        record = ExportRecord.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{part}: " for part in (RECORD, ".".join(map(str, first["loc"]))) if part)
        raise _damaged(folder, place + first["msg"]) from error
    strangers = set(record.point.good_classes) - set(record.classes)
    if strangers or len(set(record.classes)) < len(record.classes):
        raise _damaged(folder, f"{RECORD}: a class stands twice, or a good class is none of the classes")
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


def _to_facts(record: ExportRecord, digest: str) -> ModelFacts:
    own = (record.classes, record.geometry, record.point, record.temperature)
    return ModelFacts(*own, True, record.vocabulary, digest, record.checkpoint.digest, "", record.versions)


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
