"""What a checkpoint carries, and how it is loaded without running code."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from weldnet.data.decode.images import Geometry
from weldnet.errors import InputError
from weldnet.evaluation.judge import Judge
from weldnet.files import find_damage, replace_file
from weldnet.inference.model_card import read_card
from weldnet.inference.trained_card import READS, TrainedCard
from weldnet.model.classifier import WeldClassifier
from weldnet.model.ensemble import Ensemble
from weldnet.model.network import WeldNet
from weldnet.model.settings import ModelSettings

RECORD = "weldnet"
"""The key of a Lightning checkpoint under which its card stands, as `TrainedCard.to_plain` has it."""

_TAKES = "ckpt_path takes a file that weldnet-train wrote"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: its file, that file's SHA-256, its card, the network's weights, the finished epochs, and
    the states of callbacks, untrusted."""

    path: Path
    digest: str
    card: TrainedCard
    weights: Mapping[str, Tensor]
    num_epochs: int
    states: Any = None

    @property
    def geometry(self) -> Geometry:
        return self.card.geometry

    @cached_property
    def shared(self) -> WeldClassifier:
        """That of `classifier`, built once, for those who do not change it."""
        return self.classifier()

    def network(self) -> WeldNet:
        """The network, in evaluation mode, float32; see `classifier`."""
        return self.classifier().network

    def classifier(self) -> WeldClassifier:
        """The module around the network, in evaluation mode, float32; an InputError where the weights do not fit."""
        prefixes = [f"members.{number}." for number in range(len(self.card.members))]
        first, *others = map(self._load_classifier, prefixes or [""])
        if prefixes:
            first.add_module("network", Ensemble([each.network for each in (first, *others)]))
        return first.eval()

    def _load_classifier(self, prefix: str) -> WeldClassifier:
        """The module around the network whose weights have a prefix."""
        weights = {name.removeprefix(prefix): value for name, value in self.weights.items() if name.startswith(prefix)}
        try:
            # First without memory: a damaged or hostile file may name a network of any size.
            with torch.device("meta"):
                self._make_classifier().network.load_state_dict(weights, assign=True)
            classifier = self._make_classifier()
            classifier.network.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(
                f"{self.path}: its weights do not fit its {self.card.backbone}; the file is damaged"
            ) from error
        return classifier

    def _make_classifier(self) -> WeldClassifier:
        card, size = self.card, (self.geometry.height, self.geometry.width)
        settings = ModelSettings(card.backbone, weights="none", channels_last=card.channels_last)
        return WeldClassifier(card.classes, settings, size=size, mean=card.mean, std=card.std)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Loads a weldnet checkpoint, or raises an InputError; nothing in the file can run code."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path} (ckpt_path)")
    try:
        damage = find_damage(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {str(error.strerror).lower()} (ckpt_path)") from error
    if damage:
        raise InputError(
            f"{path} is not loaded: it is truncated or no checkpoint at all, or damaged: {damage}; {_TAKES}"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    # A damaged or hostile file raises nearly anything here; each means the same to the user.
    except Exception as error:
        reason = (
            "it holds more than plain data, and loading that could run code"
            if "weights_only" in str(error).lower()
            else "it is truncated or no checkpoint at all"
        )
        raise InputError(f"{path} is not loaded: {reason}; {_TAKES}") from error
    record = content.get(RECORD) if isinstance(content, dict) else None
    if not isinstance(record, dict) or not isinstance(content.get("state_dict"), dict):
        raise InputError(f"{path} is a checkpoint, but not weldnet's; {_TAKES}")
    prefix = "network."
    weights = {
        name.removeprefix(prefix): value
        for name, value in content["state_dict"].items()
        if isinstance(name, str) and name.startswith(prefix)
    }
    if record.get("format") not in READS:
        reads = ", ".join(map(str, READS))
        raise InputError(f"{path} has checkpoint format {record.get('format')}; this weldnet reads {reads}")
    epoch = content.get("epoch", -1)
    try:
        card = read_card(TrainedCard, record)
        if type(epoch) is not int:
            raise InputError("the epoch is no whole number")
    except InputError as error:
        raise InputError(f"{path}: its record is damaged: {error}") from error
    return Checkpoint(path, file_digest(path), card, weights, epoch + 1, content.get("callbacks"))


def write_checkpoint(content: dict[str, Any], file: Path) -> None:
    """Writes what `torch.save` takes, all or nothing; the folder must exist."""
    with replace_file(file) as temporary:
        try:
            # Given a path, torch turns a full disk into a RuntimeError without a reason.
            with temporary.open("wb") as stream:
                torch.save(content, stream)
        except RuntimeError as error:
            # With an open file, too, where it cannot end the archive: after a full disk, Ctrl-C or SIGTERM.
            if isinstance(error.__context__, (OSError, KeyboardInterrupt, SystemExit)):
                raise error.__context__ from error
            raise


def write_judge(path: Path, judge: Judge | None) -> None:
    """Replaces the judge in a checkpoint file, all or nothing."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    card = read_card(TrainedCard, content[RECORD])
    content[RECORD] = card.model_copy(update={"judge": judge}).to_plain()
    write_checkpoint(content, path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
