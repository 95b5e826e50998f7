"""A small run to export, and its exports, for tests of what reads one."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from calling import read_operators_once
from omegaconf import OmegaConf

from weldnet.config.build import build_data
from weldnet.data.datamodule import WeldDataModule
from weldnet.export import exporter as exporting
from weldnet.export.exporter import export_model
from weldnet.export.settings import Bounds, Int8Settings
from weldnet.inference.checkpoint import Checkpoint, load_checkpoint
from weldnet.inference.exported import FORMATS, read_export_card
from weldnet.inference.finished_runs import kept_checkpoint


def load_small(small: Path, cache_dir: Path) -> tuple[Checkpoint, WeldDataModule]:
    """The checkpoint of the run of `train_small`, and its data, set up, ready to be exported."""
    read_operators_once()
    checkpoint = load_checkpoint(kept_checkpoint(small / "run"))
    config: Any = OmegaConf.create(checkpoint.card.config)
    config.data.cache_dir = str(cache_dir)
    data = build_data(config.data, config.seed, classes=checkpoint.card.classes)
    data.setup()
    return checkpoint, data


def export_small(small: Path, name: str, folder: Path) -> None:
    """Exports the run of `train_small` in the format `name` into `folder/export`."""
    checkpoint, data = load_small(small, folder / "cache")
    # A few verdicts may change in int8: what the network learns differs a little from machine to machine.
    export_model(checkpoint, data, name, folder / "export", Bounds(max_verdict_changes=0.2), Int8Settings(40))


def write_export(exported: Path, folder: Path) -> Path:
    """Writes the network of an export into a new folder, with a plain record of its own."""
    card, _ = read_export_card(exported)
    folder.mkdir()
    record = {
        "format_version": 3,
        "format": card.format,
        "input": card.input,
        "layout": card.layout,
        "classes": card.classes,
        "geometry": asdict(card.geometry),
        "temperature": card.temperature,
        "point": asdict(card.point),
        "vocabulary": {"pore": "2017 surface pore"},
        "files": {},
        "checkpoint": card.checkpoint.model_dump(),
        "split_digest": card.split_digest,
        "versions": {"weldnet": "0"},
        "git_commit": None,
        "date": "2026-01-01T00:00:00+00:00",
    }
    for file in FORMATS[card.format].files:
        shutil.copy(exported / file, folder)
    (folder / "model.json").write_text(json.dumps(record))
    sign(folder)
    return folder


def sign(folder: Path) -> None:
    """Writes the digests of the files as they are into `model.json`, as a careful forger would."""
    record = json.loads((folder / "model.json").read_text())
    names = [name for name in FORMATS[record["format"]].files if (folder / name).exists()]
    record["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "model.json").write_text(json.dumps(record))


def reuse(patch: pytest.MonkeyPatch, export: Path, spoil: Callable[[onnx.GraphProto], None] | None = None) -> None:
    """Has exports take the network of one that is there, as it is or spoilt: tracing takes many seconds."""
    chosen = FORMATS[read_export_card(export)[0].format]

    def write(_: object, folder: Path, __: object) -> None:
        for file in chosen.files:
            shutil.copy(export / file, folder)
        if spoil:
            network = onnx.load(folder / "model.onnx")
            spoil(network.graph)
            onnx.save(network, folder / "model.onnx")

    patch.setattr(exporting, "trace_graph", lambda *_: None)
    patch.setitem(FORMATS, chosen.name, replace(chosen, write=write))
