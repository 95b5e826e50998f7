"""What a classifier's checkpoint holds: averaged weights, arguments of plain types, no code."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import WeightAveraging

from weldnet.errors import InputError


def read_arguments(file: str | Path, key: str, weights_only: bool | None) -> dict[str, Any]:
    """The arguments that a checkpoint holds elsewhere than under `key`, or that are not for it to choose."""
    content = torch.load(file, map_location="cpu", weights_only=weights_only, mmap=True)
    known = content.get(key, {})
    if not known and "weldnet" in content:
        return _read_record(content)
    # The weights are in the checkpoint; its settings could name a file.
    settings = known.get("settings")
    return {"settings": settings | {"weights": "none"}} if isinstance(settings, dict) else {}


def refuse_objects(owner: str, hparams: Mapping[str, Any]) -> None:
    """Refuses hyper-parameters of a class that a checkpoint without code cannot hold."""
    for name, value in hparams.items():
        torch.save(value, content := io.BytesIO())
        content.seek(0)
        try:
            torch.load(content, weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{owner} saves its argument {name}, a {type(value).__name__}; a checkpoint holds plain types only: "
                f"save it as one, or take save_hyperparameters(ignore=[{name!r}])"
            ) from error


def average_weights(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Puts the averaged weights into a checkpoint of weights alone, for which Lightning asks no callback."""
    for callback in module.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging):
            callback.on_save_checkpoint(module.trainer, module, checkpoint)
    for needed_to_resume in ("current_model_state", "averaging_state"):
        checkpoint.pop(needed_to_resume, None)


def _read_record(content: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a `WeldClassifier` from a checkpoint of format 3 without hyper-parameters."""
    record, weights = content["weldnet"], content["state_dict"].get("criterion.weight")
    if record.get("members"):
        raise InputError("the checkpoint is an ensemble, not one network; load it by weldnet.load_checkpoint")
    return {
        "classes": record["classes"],
        "settings": {"backbone": record["backbone"], "channels_last": record["channels_last"], "weights": "none"},
        "size": (record["geometry"]["height"], record["geometry"]["width"]),
        "class_weights": None if weights is None else weights.tolist(),
        "mean": record.get("mean"),
        "std": record.get("std"),
    }
