"""The format `onnx`: a network for ONNX Runtime, float32, one core a call."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weldnet.errors import InputError
from weldnet.inference.engines import Change, ExportFormat, Run, import_extra

if TYPE_CHECKING:
    from torch.export import ExportedProgram

NETWORK = "model.onnx"

OPSET, IR_VERSION = 18, 8
"""The oldest in which the exporter writes."""

OLDEST_RUNTIME = "1.15.1"
"""ONNX Runtime: the oldest for Python 3.11, by which a test runs an export."""

FINISHED = "finished"
"""An optional input of networks that take photographs, where it matters that they are in the geometry already."""

OUTPUTS = ("probabilities", "distance", "class_index", "score", "verdict")
"""Of a network that takes photographs; the first two are also those of a fixed input."""


def write_onnx(program: "ExportedProgram", folder: Path, change: Change | None = None) -> Path:
    """Writes `model.onnx` from a program that `ExportFormat.write` takes; `change` is given its `onnx_ir.Model`."""
    import_extra("onnxscript")
    import onnx_ir

    # Writing alone needs it.
    import torch
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    names = OUTPUTS[: len(program.graph_signature.user_outputs)]
    sides = next(node for node in program.graph.nodes if node.name == "images").meta["val"].shape
    free = [axis for axis, side in enumerate(sides) if not isinstance(side, int)]
    # Only their names: the program knows which are free.
    axes: dict[str, Any] = {"images": dict(zip(free, ("batch", "height", "width"), strict=False))}
    if names == OUTPUTS:
        axes |= {FINISHED: None}
    converted = torch.onnx.export(
        program,
        output_names=names,
        opset_version=OPSET,
        dynamic_shapes=axes,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert converted is not None
    # It holds the source lines and paths of this machine.
    ClearMetadataAndDocStringPass()(converted.model)
    model = converted.model
    model.ir_version = IR_VERSION
    for value in model.graph.inputs[1:]:
        if value.uses():
            # An input with a value of its own may be left out.
            value.const_value = onnx_ir.tensor(np.array(False), name=FINISHED)
            model.graph.register_initializer(value)
        else:
            model.graph.inputs.remove(value)
    if change:
        change(model)
    converted.save(folder / NETWORK, external_data=False)
    return folder / NETWORK


def _open(contents: Sequence[bytes], precision: str) -> tuple[Run, str]:
    (network,) = contents
    onnxruntime = import_extra("onnxruntime")
    # Weights in a separate file need this key: the runtime would open that file.
    if b"location" in network:
        raise InputError("its weights are in a separate file, which is never read")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Its errors are raised as well; only they are shown.
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    runtime = f"onnxruntime {onnxruntime.__version__} {precision}"
    if len(session.get_outputs()) < len(OUTPUTS):
        return lambda images: session.run(OUTPUTS[:2], {"images": images}), runtime
    finished = {each.name: np.array(True) for each in session.get_overridable_initializers()}
    geometry = json.loads(session.get_modelmeta().custom_metadata_map["geometry"])
    size = (geometry["height"], geometry["width"])
    order = (0, 2, 3, 1) if session.get_inputs()[0].shape[3] == 3 else (0, 1, 2, 3)

    def run(images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        # It would resize others once more.
        if images.shape[2:] != size:
            raise InputError(f"the network is for images of {size[0]} x {size[1]} pixels")
        outputs: Sequence[NDArray[np.float32]]
        outputs = session.run(OUTPUTS[:2], {"images": images.transpose(order)} | finished)
        return outputs

    return run, runtime


def open_alone(folder: Path) -> Any:
    """Opens the network of an export's folder without weldnet."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


RUNTIME = (
    f"`{NETWORK}` runs in ONNX Runtime {OLDEST_RUNTIME} or later (opset {OPSET}, IR version {IR_VERSION}), on the CPU "
    "in float32. OpenVINO reads it, too; its converter `ovc` halves the weights to FP16 unless you type "
    "`--compress_to_fp16=False`. In any other runtime, first compare with `check/expected.json`."
)

ONNX = ExportFormat(
    "onnx",
    (NETWORK,),
    ("onnx", "onnxscript", "onnxruntime"),
    write_onnx,
    _open,
    open_alone,
    RUNTIME,
    takes_photographs=True,
)
