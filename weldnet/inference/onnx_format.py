"""The format `onnx`: a network for ONNX Runtime, float32, one core a call."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from weldnet.errors import InputError
from weldnet.inference.export_format import Change, ExportFormat, Run, import_extra

if TYPE_CHECKING:
    from torch.export import ExportedProgram

NETWORK = "model.onnx"


def write_onnx(program: "ExportedProgram", folder: Path) -> Path:
    """Writes `model.onnx` from a program that `ExportFormat.write` takes."""
    import_extra("onnxscript")
    # Writing alone needs it.
    import torch
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    converted = torch.onnx.export(
        program,
        input_names=["images"],
        output_names=["probabilities", "distance"],
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert converted is not None
    # It holds the source lines and paths of this machine.
    ClearMetadataAndDocStringPass()(converted.model)
    converted.save(folder / NETWORK, external_data=False)
    return folder / NETWORK


def _write(program: "ExportedProgram", folder: Path, quantise: Change | None) -> None:
    assert quantise is None, "only OpenVINO's network is quantised"
    write_onnx(program, folder)


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
    return lambda images: session.run(["probabilities", "distance"], {"images": images}), runtime


ONNX = ExportFormat("onnx", (NETWORK,), ("onnx", "onnxscript", "onnxruntime"), _write, _open)
