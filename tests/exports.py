"""A small run to export, and an export of it without the gate, for tests of what reads one."""

import hashlib
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from weldnet.config.build import build_data
from weldnet.data.datamodule import WeldDataModule
from weldnet.export.exporter import require_judge
from weldnet.export.graph import trace_graph
from weldnet.export.handover import describe_network
from weldnet.inference.checkpoint import Checkpoint, kept_checkpoint, load_checkpoint
from weldnet.inference.exported import FORMATS
from weldnet.inference.model_card import ExportCard, read_card


def load_small(small: Path, cache_dir: Path) -> tuple[Checkpoint, WeldDataModule]:
    """The checkpoint of the run of `train_small`, and its data, set up."""
    checkpoint = load_checkpoint(kept_checkpoint(small / "run"))
    config: Any = OmegaConf.create(checkpoint.card.config)
    config.data.cache_dir = str(cache_dir)
    data = build_data(config.data, config.seed, classes=checkpoint.card.classes)
    data.setup()
    return checkpoint, data


def write_export(small: Path, folder: Path, name: str, layout: str = "nhwc") -> Path:
    """Writes the run of `train_small` in the format `name` into a new folder; photographs in a layout."""
    checkpoint = load_checkpoint(kept_checkpoint(small / "run"))
    judge = require_judge(checkpoint)
    folder.mkdir()
    takes_photographs = FORMATS[name].takes_photographs
    record = {
        "format_version": 3,
        "format": name,
        "input": "photograph" if takes_photographs else "fixed",
        "layout": layout if takes_photographs else "nchw",
        "classes": checkpoint.card.classes,
        "geometry": asdict(checkpoint.geometry),
        "temperature": judge.temperature,
        "point": judge.point.to_dict(),
        "vocabulary": {"pore": "2017 surface pore"},
        "files": {},
        "checkpoint": {"name": "best.ckpt", "digest": checkpoint.digest},
        "split_digest": checkpoint.card.split_digest,
        "versions": {"weldnet": "0"},
        "git_commit": None,
        "date": "2026-01-01T00:00:00+00:00",
    }
    card = read_card(ExportCard, record)
    graph = trace_graph(checkpoint, judge, layout if takes_photographs else None)
    FORMATS[name].write(graph, folder, partial(describe_network, card=card) if takes_photographs else None)
    (folder / "model.json").write_text(json.dumps(record))
    sign(folder)
    return folder


def sign(folder: Path) -> None:
    """Writes the digests of the files as they are into `model.json`, as a careful forger would."""
    record = json.loads((folder / "model.json").read_text())
    names = [name for name in FORMATS[record["format"]].files if (folder / name).exists()]
    record["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "model.json").write_text(json.dumps(record))
