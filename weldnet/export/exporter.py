"""From a checkpoint to a folder that runs without torch: written, loaded back, measured, and only then kept."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.evaluation.judge import Judge
from weldnet.export.graph import save_openvino, write_network
from weldnet.export.parity import check_float, check_int8, measure_float, measure_int8, score_split
from weldnet.export.quantization import choose_point, count_convolutions, quantise
from weldnet.export.settings import Bounds, Int8Settings
from weldnet.files import move_into_place, name_failures, write_json
from weldnet.inference.checkpoint import Checkpoint, judge_of
from weldnet.inference.engines import TorchEngine
from weldnet.inference.exported import FILES, RECORD, Format, import_extra, load_export
from weldnet.inference.model_card import ExportCard, Origin
from weldnet.inference.provenance import current_commit, file_digest

PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "openvino_int8": ("onnx", "onnxscript", "openvino", "nncf"),
}
"""What each format needs, all of the extra `export`."""


def export(
    checkpoint: Checkpoint,
    data: WeldDataModule,
    export_format: Format,
    folder: Path,
    bounds: Bounds,
    int8: Int8Settings | None = None,
) -> dict[str, Any]:
    """Writes an export folder: the network's files, `model.json` and `parity.json`; all of it or nothing.

    Args:
        checkpoint: calibrated.
        data: set up, those that trained it.
        folder: empty, or not there yet.
        bounds: of the gate.
        int8: how `openvino_int8` is quantised; None for the defaults.

    Returns:
        What `parity.json` holds.

    Raises:
        InputError: the checkpoint has no judge, its backbone has no such stage or does not support int8, or the
            export is not within the bounds.
    """
    judge, int8 = require_judge(checkpoint), int8 or Int8Settings()
    network = checkpoint.network()
    num_float = count_convolutions(network, int8.float_through)
    if export_format == "openvino_int8" and not network.backbone.supports_int8:
        raise InputError(f"format=openvino_int8 is for ResNets, not for {network.backbone.name}; type format=openvino")
    with build_folder(folder) as built:
        write_network(checkpoint, judge, export_format, built)
        if export_format == "openvino_int8":
            _quantise_files(built, data, int8, num_float)
        record = _describe(checkpoint, judge, export_format, built)
        write_json(built / RECORD, record.model_dump(mode="json"))
        reference, engine = TorchEngine(checkpoint, "cpu"), load_export(built, device="cpu", precision="float32")
        before, after = (score_split(each, data, "val") for each in (reference, engine))
        figures: dict[str, Any] = {"format": export_format, "runtime": engine.facts.runtime}
        if export_format == "openvino_int8":
            point = choose_point(before, after, data, judge)
            write_json(built / RECORD, record.model_copy(update={"point": point}).model_dump(mode="json"))
            labels = data.dataset("val").labels.numpy()
            figures |= asdict(int8)
            figures |= measure_int8(before, after, labels, record.classes, (judge.point, point), bounds)
            check_int8(figures)
        else:
            figures |= measure_float(before, after, record.classes, judge.point, bounds)
            check_float(figures)
        write_json(built / "parity.json", figures)
    return figures


def require_judge(checkpoint: Checkpoint) -> Judge:
    """Raises:
    InputError: the checkpoint is not calibrated.
    """
    judge = judge_of(checkpoint)
    if judge is None:
        raise InputError(
            f"{checkpoint.path} is not calibrated, so an export of it could only refer every image; name the run, or "
            "the checkpoint that it keeps"
        )
    return judge


@contextmanager
def build_folder(folder: Path) -> Iterator[Path]:
    """A folder to build in, renamed to `folder` at the end; gone after an error or an interruption.

    Raises:
        OSError: it cannot be written; it names `folder`.
    """
    folder = folder.resolve()
    above = next(parent for parent in folder.parents if parent.exists())
    # Not named after the folder, whose name may be as long as names get.
    built = above / f".weldnet_{secrets.token_hex(4)}"
    try:
        with name_failures(folder, built):
            built.mkdir()
            yield built
            folder.parent.mkdir(parents=True, exist_ok=True)
            move_into_place(built, folder)
    finally:
        shutil.rmtree(built, ignore_errors=True)


def _quantise_files(folder: Path, data: WeldDataModule, settings: Int8Settings, num_float: int) -> None:
    openvino = import_extra("openvino")
    network = openvino.Core().read_model(folder / "model.xml")
    quantised = quantise(network, data.dataset("train"), settings, num_float)
    save_openvino(quantised, folder / "int8.xml")
    # The weights of the first may still be mapped from its file; a rename leaves them be.
    for ending in (".xml", ".bin"):
        (folder / f"int8{ending}").replace(folder / f"model{ending}")


def _describe(checkpoint: Checkpoint, judge: Judge, export_format: Format, folder: Path) -> ExportCard:
    record = checkpoint.record
    return ExportCard(
        format=export_format,
        classes=record.classes,
        geometry=checkpoint.geometry,
        temperature=judge.temperature,
        point=judge.point,
        vocabulary=record.vocabulary,
        files={name: file_digest(folder / name) for name in FILES[export_format]},
        checkpoint=Origin(name=checkpoint.path.name, digest=checkpoint.digest),
        split_digest=record.split_digest,
        versions={name: version(name) for name in ("weldnet", "torch", *PACKAGES[export_format])},
        git_commit=current_commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
