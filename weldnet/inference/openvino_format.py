"""The formats `openvino` and `openvino_int8`: a network for OpenVINO, one core a call."""

import errno
import functools
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weldnet.errors import InputError, first_line, shorten
from weldnet.hardware import available_cores
from weldnet.inference.engines import PRECISIONS, Change, ExportFormat, Run, import_extra
from weldnet.inference.onnx_format import write_onnx

if TYPE_CHECKING:
    from torch.export import ExportedProgram

NETWORK, WEIGHTS = "model.xml", "model.bin"


def _write(program: "ExportedProgram", folder: Path, quantise: Change | None) -> None:
    openvino, file = import_extra("openvino"), write_onnx(program, folder)
    try:
        network = openvino.convert_model(file)
    except openvino.frontend.OpConversionFailure as error:
        operations = shorten(re.findall(r"^-- (\S+) with a message", str(error), re.MULTILINE))
        raise InputError(
            f"OpenVINO cannot convert this network for images of this size: {operations or first_line(error)}; type "
            "format=onnx, or train it with larger images (data.image_size)"
        ) from error
    try:
        openvino.save_model(quantise(network) if quantise else network, folder / NETWORK, compress_to_fp16=False)
    # openvino raises it for a full disk as for any other.
    except RuntimeError as error:
        raise OSError(errno.EIO, f"openvino cannot write: {first_line(error)}", str(folder / NETWORK)) from error
    file.unlink()


def _open(contents: Sequence[bytes], precision: str) -> tuple[Run, str]:
    openvino = import_extra("openvino")
    network, weights = contents
    # OpenVINO would also read other formats, such as ONNX with its weights in a separate file.
    if not network.startswith(b"<?xml"):
        raise InputError("its network is no XML")
    core, cores, of_thread = _core(), available_cores(), threading.local()
    settings = {
        # Left to itself it takes bfloat16 wherever the hardware multiplies it.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "NUM_STREAMS": cores,
        "INFERENCE_NUM_THREADS": cores,
    }
    compiled = core.compile_model(core.read_model(network, weights), "CPU", settings)

    def run(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        if not hasattr(of_thread, "request"):
            of_thread.request = compiled.create_infer_request()
        results = of_thread.request.infer({"images": images}, share_inputs=True)
        return [results["probabilities"], results["distance"]]

    # What it really computes in: not every processor has bfloat16.
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return run, f"openvino {openvino.__version__.split('-')[0]} {'bf16' if used == 'bf16' else 'float32'}"


@functools.cache
def _core() -> Any:
    """The one core of this process; a core that ends may leave the thread with a freed stack for signal handlers."""
    return import_extra("openvino").Core()


def open_alone(folder: Path) -> Any:
    """Opens the network of an export's folder without weldnet."""
    import openvino

    network = openvino.Core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: network({"images": images})


RUNTIME = (
    f"`{NETWORK}` and `{WEIGHTS}` run in OpenVINO {{version}} or later, on the CPU. Left to itself OpenVINO computes "
    "in bfloat16 where the processor can: set INFERENCE_PRECISION_HINT to f32. It takes images that are already "
    "resized, and gives no verdict: resizing in bfloat16 or int8 would change grey levels, and int8 has thresholds "
    "of its own. format=onnx takes photographs as they are."
)

OPENVINO = ExportFormat(
    "openvino", (NETWORK, WEIGHTS), ("onnx", "onnxscript", "openvino"), _write, _open, open_alone, RUNTIME, PRECISIONS
)
OPENVINO_INT8 = replace(OPENVINO, name="openvino_int8", packages=("nncf", *OPENVINO.packages), is_int8=True)
