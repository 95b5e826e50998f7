"""TrainedCard: the model card of a checkpoint."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from weldnet.data.splits.folds import MOST_FOLDS
from weldnet.evaluation.decision import choose_operating_point
from weldnet.evaluation.judge import Judge
from weldnet.evaluation.verdicts import NOT_CALIBRATED, OperatingPoint
from weldnet.inference.model_card import ModelCard, bring_up, from_dict
from weldnet.model.backbone import IMAGENET_MEAN, IMAGENET_STD

REFER_ALL = replace(choose_operating_point(np.zeros(0), np.zeros(0, np.bool_), ()), reasons=(NOT_CALIBRATED,))
"""The operating point of a checkpoint without a judge."""

FORMAT: Literal[4] = 4
"""Of checkpoints."""

READS = (3, FORMAT)
"""The formats that load: 3 has no `geometry.normalize`, which is `imagenet` then."""


def _convert(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """The same nest with every value of a kind converted: a checkpoint holds tensors, evaluation arrays."""
    if isinstance(value, dict):
        return {name: _convert(each, kind, function) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_convert(each, kind, function) for each in value)
    return function(value) if isinstance(value, kind) else value


def _check_hashes(hashes: Tensor) -> Tensor:
    if hashes.dtype != torch.int64:
        raise ValueError("allowed are whole numbers")
    return hashes


StoredJudge = Annotated[Judge, from_dict(lambda values: Judge.from_dict(_convert(values, Tensor, Tensor.numpy)))]
Hashes = Annotated[Tensor, AfterValidator(_check_hashes)]
Colour = Annotated[tuple[float, ...], Field(min_length=3, max_length=3, strict=False)]


class TrainedCard(ModelCard):
    """The card of a checkpoint. That of an ensemble has its first member's config, split digest and versions.

    Attributes:
        fingerprints, validation_fingerprints: int64 (N,), sorted: the content of each training and each validation
            image, see `weldnet.data.splits.leaks.fingerprints`.
        groups: int64 (G,), sorted: the same of the names of their welds.
        leaks: those that were allowed in its data, one sentence each.
        config: the whole resolved config, as YAML.
        selection: which epoch the run keeps, and why, in one sentence.
        judge: None until training has ended.
        mean, std: of RGB pixels from 0 to 1, by which the network normalises.
        members: of an ensemble, the SHA-256 of the checkpoints that it was made of; empty for one network.
    """

    format: Annotated[Literal[4], bring_up(READS)] = FORMAT
    backbone: str
    channels_last: bool
    validation_groups: str
    fingerprints: Hashes
    validation_fingerprints: Hashes
    groups: Hashes
    leaks: list[str]
    good_classes: list[str]
    config: str
    selection: str = ""
    judge: StoredJudge | None = None
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD
    members: list[str] = Field(default=[], max_length=MOST_FOLDS)

    @model_validator(mode="after")
    def _check_judge(self) -> "TrainedCard":
        if self.judge and list(self.judge.classes) != self.classes:
            raise ValueError("its judge has other classes")
        if self.judge and len(self.judge.novelty) != max(1, len(self.members)):
            raise ValueError("its judge has a different number of members")
        return self

    @property
    def temperature(self) -> float:
        return self.judge.temperature if self.judge else 1.0

    @property
    def point(self) -> OperatingPoint:
        return self.judge.point if self.judge else REFER_ALL

    def to_plain(self) -> dict[str, Any]:
        """Plain types and tensors, as a checkpoint stores them."""
        plain: dict[str, Any] = _convert(self.model_dump(), np.ndarray, torch.as_tensor)
        return plain


def current_versions() -> dict[str, str]:
    """The versions of weldnet and of what it computes with."""
    return {name: version(name) for name in ("weldnet", "torch", "torchvision", "lightning")}


def current_commit() -> str | None:
    """The git commit of weldnet's source, with `-dirty` where it was changed since; None where it is no checkout."""
    source = Path(__file__).parents[2]
    if not (source / ".git").exists():
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
