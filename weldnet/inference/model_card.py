"""ModelCard: the facts of a model, in its checkpoint, in the `model.json` of an export, and behind `/model`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from weldnet.data.decode.images import Geometry
from weldnet.data.splits.folds import MOST_FOLDS
from weldnet.data.splits.rules import MAX_CLASSES
from weldnet.errors import InputError
from weldnet.evaluation.decision import NOT_CALIBRATED, OperatingPoint, choose_operating_point
from weldnet.evaluation.judge import Judge
from weldnet.model.backbone import IMAGENET_MEAN, IMAGENET_STD
from weldnet.spelling import make_visible

REFER_ALL = replace(choose_operating_point(np.zeros(0), np.zeros(0, np.bool_), ()), reasons=(NOT_CALIBRATED,))
"""The operating point of a checkpoint without a judge."""

FORMAT: Literal[4] = 4
"""Of checkpoints."""

READS = (3, FORMAT)
"""The formats that load: 3 has no `geometry.normalize`, which is `imagenet` then."""

MAX_SENTENCE = 300


def _from_dict(build: Callable[[Any], object]) -> BeforeValidator:
    """Makes a dataclass from a dictionary before its own types are validated."""

    def validate(value: object) -> object:
        try:
            return build(value) if isinstance(value, dict) else value
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error

    return BeforeValidator(validate)


def _convert(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """The same nest with every value of a kind converted: a checkpoint holds tensors, evaluation arrays."""
    if isinstance(value, dict):
        return {name: _convert(each, kind, function) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_convert(each, kind, function) for each in value)
    return function(value) if isinstance(value, kind) else value


def _read_judge(values: dict[str, Any]) -> Judge:
    return Judge.from_dict(_convert(values, Tensor, Tensor.numpy))


def _bring_up(formats: tuple[int, ...]) -> BeforeValidator:
    """Makes the newest of these formats of each: what a card lacks has a default."""
    return BeforeValidator(lambda number: formats[-1] if type(number) is int and number in formats else number)


def _check_hashes(hashes: Tensor) -> Tensor:
    if hashes.dtype != torch.int64:
        raise ValueError("allowed are whole numbers")
    return hashes


# As long as a folder's name gets.
Name = Annotated[str, Field(max_length=255)]
Point = Annotated[OperatingPoint, _from_dict(OperatingPoint.from_dict)]
Hashes = Annotated[Tensor, AfterValidator(_check_hashes)]
Colour = Annotated[tuple[float, ...], Field(min_length=3, max_length=3, strict=False)]


class ModelCard(BaseModel):
    """The facts of every model. Files are untrusted: each value is validated as it is loaded.

    Attributes:
        classes: C names, in the order of the probabilities.
        geometry: how files become the network's input.
        vocabulary: number and name in ISO 6520-1 by class, for those that have one.
        split_digest: of the data that it was trained, calibrated and measured on.
        versions: of the packages that made it.
        git_commit: of the source that made it, None outside a checkout.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        revalidate_instances="always",
    )

    classes: list[Name] = Field(min_length=1, max_length=MAX_CLASSES)
    geometry: Annotated[Geometry, _from_dict(lambda values: Geometry(**values))]
    vocabulary: dict[str, str]
    split_digest: str
    versions: dict[str, str]
    git_commit: str | None

    @model_validator(mode="after")
    def _check_classes(self) -> "ModelCard":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class stands twice")
        point: OperatingPoint | None = getattr(self, "point", None)
        if point and set(point.good_classes) - set(self.classes):
            raise ValueError("a good class is none of the classes")
        return self


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

    format: Annotated[Literal[4], _bring_up(READS)] = FORMAT
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
    judge: Annotated[Judge, _from_dict(_read_judge)] | None = None
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD
    members: Annotated[list[str], Field(max_length=MOST_FOLDS)] = []

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


class CalibratedCard(ModelCard):
    """The card of a model with thresholds, the `point`, for probabilities under a `temperature`."""

    temperature: float = Field(gt=0)
    point: Point


class Origin(BaseModel):
    """The checkpoint that an export comes from: its file's name and SHA-256."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str
    digest: str


class ExportCard(CalibratedCard):
    """The card of an export, `model.json`; `files` holds the SHA-256 of each of the network's files.

    Version 1 has no `geometry.normalize`, which is `imagenet` then.
    """

    format_version: Annotated[Literal[2], _bring_up((1, 2))] = 2
    format: str
    files: dict[str, str]
    checkpoint: Origin
    date: str


class ModelFacts(CalibratedCard):
    """The card of a model that runs.

    Attributes:
        calibrated: whether it has a temperature, thresholds and distances of its own; if not, every image is referred.
        digest: SHA-256, 64 hex digits: of the checkpoint; or of an export's `model.json`, which names its files' own.
        runtime: what runs it, and in which precision, in words.
    """

    calibrated: bool
    digest: str
    checkpoint_digest: str
    runtime: str


Card = TypeVar("Card", bound=ModelCard)


def read_card(kind: type[Card], content: bytes | dict[str, Any]) -> Card:
    """The card in a `model.json` or in a checkpoint; where it is damaged, an InputError reports it in one sentence."""
    try:
        return kind.model_validate_json(content) if isinstance(content, bytes) else kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        sentence_parts = [".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")]
        raise InputError(make_visible(": ".join(filter(None, sentence_parts)))[:MAX_SENTENCE]) from error


def describe_running(card: TrainedCard | ExportCard, **facts: Any) -> ModelFacts:
    """The card of a model that runs, from the one in its file."""
    stored = {name: getattr(card, name) for name in CalibratedCard.model_fields}
    return ModelFacts(**stored, **facts)
