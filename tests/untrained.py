"""A checkpoint of random weights, for tests that need no trained network."""

from pathlib import Path
from typing import Any

import torch

from weldnet.data.decode.images import Geometry
from weldnet.inference.checkpoint import RECORD
from weldnet.inference.trained_card import TrainedCard
from weldnet.model.network import WeldNet, make_backbone


def make_card(**facts: Any) -> TrainedCard:
    """The card of a ResNet18 for 64 x 32 pixels that no image has trained; with other facts."""
    none = torch.zeros(0, dtype=torch.int64)
    own: dict[str, Any] = {
        "classes": ["good", "crack", "pore"],
        "geometry": Geometry(64, 32),
        "vocabulary": {},
        "split_digest": "",
        "versions": {},
        "git_commit": None,
        "backbone": "resnet18",
        "channels_last": True,
        "validation_groups": "",
        **dict.fromkeys(("fingerprints", "validation_fingerprints", "groups"), none),
        "leaks": [],
        "good_classes": ["good"],
        "config": "",
    }
    return TrainedCard(**(own | facts))


def save_untrained(file: Path, classes: tuple[str, ...] = ("good", "crack", "pore"), **facts: Any) -> Path:
    """Writes a checkpoint of a ResNet18 for 64 x 32 pixels; it is not calibrated. Other facts stand in its card.

    With backbone="test_resnet" it has a thirtieth of the weights.
    """
    torch.manual_seed(0)
    card = make_card(classes=list(classes), **facts)
    size = (card.geometry.height, card.geometry.width)
    network = WeldNet(make_backbone(card.backbone, size), len(classes))
    content = {
        "epoch": 0,
        "state_dict": {f"network.{name}": value for name, value in network.state_dict().items()},
        RECORD: card.to_plain(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    return file
