"""From a checkpoint to a folder that runs without torch: written, loaded back, measured, and only then kept."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.evaluation.judge import Judge
from weldnet.evaluation.verdicts import NOT_CALIBRATED, OperatingPoint
from weldnet.export.file_parity import answer_files, check_files
from weldnet.export.graph import trace_graph
from weldnet.export.handover import (
    describe_input,
    describe_network,
    describe_rule,
    write_file_check,
    write_image_check,
    write_readme,
)
from weldnet.export.parity import check, measure, score_split
from weldnet.export.quantization import choose_point, count_convolutions, quantise
from weldnet.export.settings import Bounds, InputSettings, Int8Settings
from weldnet.files import move_into_place, name_failures, write_json
from weldnet.inference.checkpoint import Checkpoint, file_digest
from weldnet.inference.engines import Change, ExportFormat
from weldnet.inference.exported import CARD, FORMATS, load_export
from weldnet.inference.model_card import ExportCard, ModelCard, Origin
from weldnet.inference.torch_engine import TorchEngine
from weldnet.inference.trained_card import current_commit


def export_model(
    checkpoint: Checkpoint,
    data: WeldDataModule,
    export_format: str,
    folder: Path,
    bounds: Bounds,
    int8: Int8Settings | None = None,
    takes: InputSettings | None = None,
) -> dict[str, Any]:
    """Writes an export folder: the network's files, records, README.md and a check; all of it or nothing.

    The data are set up, those that trained the checkpoint; the folder is empty, or not there yet. Returns what
    `parity.json` holds.

    Raises:
        InputError: the checkpoint has no judge, its backbone has no such stage or no int8, or a bound is exceeded.
    """
    judge, chosen = require_judge(checkpoint), FORMATS[export_format]
    int8, layout = int8 or Int8Settings(), choose_layout(takes or InputSettings(), chosen)
    network = checkpoint.network()
    num_float = count_convolutions(network, int8.float_through)
    change: Change | None = None
    if chosen.is_int8 and not network.backbone.supports_int8:
        raise InputError(f"format={chosen.name} is for ResNets, not for {network.backbone.name}; type format=openvino")
    card = _describe(checkpoint, judge, chosen, layout)
    if chosen.is_int8:
        change = partial(quantise, images=data.dataset("train"), settings=int8, num_float=num_float)
    elif layout:
        change = partial(describe_network, card=card)
    with build_folder(folder) as built:
        chosen.write(trace_graph(checkpoint, judge, layout), built, change)
        card = card.model_copy(update={"files": {name: file_digest(built / name) for name in chosen.files}})
        _write_card(built, card)
        card, figures = _pass_gate(built, card, checkpoint, data, bounds, int8)
        write_readme(built, card)
        write_json(built / "parity.json", figures)
    return figures


def _pass_gate(
    built: Path, card: ExportCard, checkpoint: Checkpoint, data: WeldDataModule, bounds: Bounds, int8: Int8Settings
) -> tuple[ExportCard, dict[str, Any]]:
    """Runs what was written, and writes its check: the card, in int8 with thresholds of its own, and the figures."""
    chosen, judge = FORMATS[card.format], require_judge(checkpoint)
    engine, reference = load_export(built, device="cpu", precision="float32"), TorchEngine(checkpoint, "cpu")
    before, after = (score_split(each, data, "val") for each in (reference, engine))
    figures: dict[str, Any] = {"format": chosen.name, "input": card.input, "runtime": engine.facts.runtime}
    if chosen.is_int8:
        figures |= asdict(int8)
        card = _decide(card, choose_point(before, after, data, judge))
        _write_card(built, card)
    labels, points = data.dataset("val").labels.numpy(), (judge.point, card.point)
    figures |= measure(before, after, labels, card.classes, points, bounds.of(is_int8=chosen.is_int8))
    check(figures)
    if card.input == "photograph":
        answers = answer_files(built / chosen.files[0], card.layout, reference, data)
        figures["files"] = check_files(answers, engine, before, labels, bounds)
        write_file_check(built, answers, card, data)
    else:
        write_image_check(built, after, engine, card, data)
    return card, figures


def choose_layout(takes: InputSettings, chosen: ExportFormat) -> str | None:
    """The layout of the photographs that an export takes; None for a finished image."""
    return takes.layout if takes.input == "auto" and chosen.takes_photographs else None


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


def _describe(checkpoint: Checkpoint, judge: Judge, chosen: ExportFormat, layout: str | None) -> ExportCard:
    """The card of an export whose files are still to be written."""
    facts = {name: getattr(checkpoint.card, name) for name in ModelCard.model_fields}
    own = {
        "layout": layout or "nchw",
        "versions": {name: version(name) for name in ("weldnet", "torch", *chosen.packages)},
        "git_commit": current_commit(),
    }
    card = ExportCard(
        **(facts | own),
        temperature=judge.temperature,
        point=judge.point,
        format=chosen.name,
        input="photograph" if layout else "fixed",
        input_rule=describe_input(checkpoint.geometry, layout),
        files={},
        checkpoint=Origin(name=checkpoint.path.name, digest=checkpoint.digest),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return _decide(card, judge.point)


def _write_card(folder: Path, card: ExportCard) -> None:
    write_json(folder / CARD, card.model_dump(mode="json", by_alias=True))


def _decide(card: ExportCard, point: OperatingPoint) -> ExportCard:
    """The card with an operating point, and the rule in its words."""
    card = card.model_copy(update={"point": point})
    return card.model_copy(update={"rule": describe_rule(card)})
