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
from weldnet.evaluation.verdicts import NOT_CALIBRATED
from weldnet.export.graph import trace_graph
from weldnet.export.parity import check, measure, score_split
from weldnet.export.quantization import choose_point, count_convolutions, quantise
from weldnet.export.settings import Bounds, Int8Settings
from weldnet.files import move_into_place, name_failures, write_json
from weldnet.inference.checkpoint import Checkpoint
from weldnet.inference.export_format import ExportFormat
from weldnet.inference.exported import CARD, FORMATS, load_export
from weldnet.inference.model_card import ExportCard, ModelCard, Origin
from weldnet.inference.provenance import current_commit, file_digest
from weldnet.inference.torch_engine import TorchEngine


def export_model(
    checkpoint: Checkpoint,
    data: WeldDataModule,
    export_format: str,
    folder: Path,
    bounds: Bounds,
    int8: Int8Settings | None = None,
) -> dict[str, Any]:
    """Writes an export folder: the network's files, `model.json` and `parity.json`; all of it or nothing.

    Args:
        data: set up, those that trained the checkpoint.
        folder: empty, or not there yet.

    Returns:
        What `parity.json` holds.

    Raises:
        InputError: the checkpoint has no judge, its backbone has no such stage or no int8, or a bound is exceeded.
    """
    judge, int8, chosen = require_judge(checkpoint), int8 or Int8Settings(), FORMATS[export_format]
    network = checkpoint.network()
    num_float = count_convolutions(network, int8.float_through)
    if chosen.is_int8 and not network.backbone.supports_int8:
        raise InputError(f"format={chosen.name} is for ResNets, not for {network.backbone.name}; type format=openvino")

    def change(graph: Any) -> Any:
        return quantise(graph, data.dataset("train"), int8, num_float)

    with build_folder(folder) as built:
        chosen.write(trace_graph(checkpoint, judge), built, change if chosen.is_int8 else None)
        card = _describe(checkpoint, judge, chosen, built)
        write_json(built / CARD, card.model_dump(mode="json"))
        engine = load_export(built, device="cpu", precision="float32")
        before, after = (score_split(each, data, "val") for each in (TorchEngine(checkpoint, "cpu"), engine))
        figures: dict[str, Any] = {"format": chosen.name, "runtime": engine.facts.runtime}
        if chosen.is_int8:
            figures |= asdict(int8)
            card = card.model_copy(update={"point": choose_point(before, after, data, judge)})
            write_json(built / CARD, card.model_dump(mode="json"))
        labels, points = data.dataset("val").labels.numpy(), (judge.point, card.point)
        figures |= measure(before, after, labels, card.classes, points, bounds.of(is_int8=chosen.is_int8))
        check(figures)
        write_json(built / "parity.json", figures)
    return figures


def require_judge(checkpoint: Checkpoint) -> Judge:
    """The judge of a checkpoint; an InputError where it is not calibrated."""
    judge = checkpoint.card.judge
    if judge is None:
        raise InputError(f"{checkpoint.path} cannot be exported: {NOT_CALIBRATED}")
    return judge


@contextmanager
def build_folder(folder: Path) -> Iterator[Path]:
    """A folder to build in, renamed to `folder` at the end; gone after an error. An OSError names `folder`."""
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


def _describe(checkpoint: Checkpoint, judge: Judge, chosen: ExportFormat, folder: Path) -> ExportCard:
    facts = {name: getattr(checkpoint.card, name) for name in ModelCard.model_fields}
    made_by = {
        "versions": {name: version(name) for name in ("weldnet", "torch", *chosen.packages)},
        "git_commit": current_commit(),
    }
    return ExportCard(
        **(facts | made_by),
        temperature=judge.temperature,
        point=judge.point,
        format=chosen.name,
        files={name: file_digest(folder / name) for name in chosen.files},
        checkpoint=Origin(name=checkpoint.path.name, digest=checkpoint.digest),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
