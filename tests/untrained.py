"""A checkpoint of random weights, for tests that need no trained network."""

from dataclasses import fields
from pathlib import Path

import torch

from weldnet.inference.checkpoint import RECORD, Record
from weldnet.model.network import WeldNet


def save_untrained(file: Path, classes: tuple[str, ...] = ("good", "crack", "pore")) -> Path:
    """Writes a checkpoint of a ResNet18 for 64 x 32 pixels; it is not calibrated."""
    torch.manual_seed(0)
    network = WeldNet("resnet18", len(classes))
    none = torch.zeros(0, dtype=torch.int64)
    geometry = {"height": 64, "width": 32}
    record = Record(list(classes), "resnet18", True, geometry, "", "", none, none, none, [], ["good"], {}, "", {}, None)
    content = {
        "epoch": 0,
        "state_dict": {f"network.{name}": value for name, value in network.state_dict().items()},
        RECORD: {each.name: getattr(record, each.name) for each in fields(record)},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    return file
