"""Run folders as a stopped run leaves them, without training: what a resume reads before it makes anything."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from untrained import make_card

from weldnet.config import folds, resume
from weldnet.config.schema import CrossvalConfig, TrainConfig, register_schema
from weldnet.data.decode.images import Geometry
from weldnet.inference.checkpoint import RECORD

SMALL = ["model.backbone=resnet18", "model.weights=none", "trainer=cpu", "trainer.precision=32-true"]


def compose(command: str, folder: Path, *overrides: str) -> dict[str, Any]:
    """The resolved config of a run of `weldnet-train`, or `weldnet-crossval`, in a folder."""
    cfg = deepcopy(_compose(command, overrides))
    cfg.output_dir = str(folder)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@cache
def _compose(command: str, overrides: tuple[str, ...]) -> DictConfig:
    register_schema(command, {"train": TrainConfig, "crossval": CrossvalConfig}[command])
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        return hydra.compose(command, [*SMALL, *overrides])


def find_stopped(command: str, folder: Path, *typed: str) -> resume.StoppedRun | folds.Folds:
    """The run that `weldnet-<command> ckpt_path=FOLDER ...` finds and checks, without Hydra, which takes longer.

    Args:
        typed: `key=value`, the values as YAML has them; a key that does not exist is added.
    """
    words = [f"ckpt_path={folder}", *typed]
    if command == "train":
        cfg = resume.find_saved_config(str(folder), words)
        cfg.merge_with_dotlist([word.lstrip("+") for word in words])
        return resume.find_stopped_run(cfg, words)
    cfg = resume.find_saved_crossval(str(folder), words)
    cfg.merge_with_dotlist([word.lstrip("+") for word in words])
    return folds.Folds.open(cfg, words)


def write_stopped(folder: Path, config: dict[str, Any], states: dict[str, Any] | None = None) -> Path:
    """Writes `config.yaml` and, for `weldnet-train`, a `last.ckpt` after one epoch that has no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    text = to_yaml(config)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    if "num_folds" in config:
        return folder
    size = config["data"]["image_size"]
    card = make_card(classes=["good", "pore"], geometry=Geometry(size["height"], size["width"]), config=text)
    content = {"epoch": 0, "global_step": 1, "state_dict": {}, "callbacks": states or {}}
    (folder / "checkpoints").mkdir(exist_ok=True)
    torch.save(content | {RECORD: card.to_plain()}, folder / "checkpoints" / "last.ckpt")
    return folder


def to_yaml(config: dict[str, Any]) -> str:
    """YAML of plain values; an interpolation among them stays one."""
    return OmegaConf.to_yaml(OmegaConf.create(config))


def change(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The config with one more value; nodes on the way are made."""
    *nodes, last = key.split(".")
    node = config
    for name in nodes:
        node = node.setdefault(name, {})
    node[last] = value
    return config
