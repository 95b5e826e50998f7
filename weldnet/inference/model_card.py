"""ModelCard: the facts of a model, in a checkpoint (`trained_card.py`), an export's `model.json`, and `/model`."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from weldnet.data.decode.images import Geometry
from weldnet.data.settings import MAX_CLASSES
from weldnet.errors import InputError
from weldnet.evaluation.verdicts import OperatingPoint
from weldnet.spelling import make_visible

MAX_SENTENCE = 300


def from_dict(build: Callable[[Any], object]) -> BeforeValidator:
    """Makes a dataclass from a dictionary before its own types are validated."""

    def validate(value: object) -> object:
        try:
            return build(value) if isinstance(value, dict) else value
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error

    return BeforeValidator(validate)


def bring_up(formats: tuple[int, ...]) -> BeforeValidator:
    """Makes the newest of these formats of each: what a card lacks has a default."""
    return BeforeValidator(lambda number: formats[-1] if type(number) is int and number in formats else number)


# As long as a folder's name gets.
Name = Annotated[str, Field(max_length=255)]


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
    geometry: Annotated[Geometry, from_dict(lambda values: Geometry(**values))]
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


class CalibratedCard(ModelCard):
    """The card of a model with thresholds, the `point`, for probabilities under a `temperature`.

    Probabilities have the temperature already, so it is written as `applied_temperature`; `temperature` in versions 1
    and 2 of an export's card.
    """

    temperature: float = Field(
        gt=0,
        validation_alias=AliasChoices("applied_temperature", "temperature"),
        serialization_alias="applied_temperature",
    )
    point: OperatingPoint


class Origin(BaseModel):
    """The checkpoint that an export comes from: its file's name and SHA-256."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str
    digest: str


class ExportCard(CalibratedCard):
    """The card of an export, `model.json`.

    Version 1 has no `geometry.normalize`, which is `imagenet` then. Versions 1 and 2 have a `fixed` input and no rules.

    Attributes:
        input: `photograph`: decoded files of any size; or `fixed`: finished images of the geometry.
        layout: of the input's axes.
        input_rule: how a file becomes the input, a sentence each.
        rule: how the outputs become a verdict, a sentence each.
        files: the SHA-256 of each of the network's files.
    """

    format_version: Annotated[Literal[3], bring_up((1, 2, 3))] = 3
    format: str
    input: Literal["photograph", "fixed"] = "fixed"
    layout: Literal["nhwc", "nchw"] = "nchw"
    input_rule: list[str] = []
    rule: list[str] = []
    files: dict[str, str]
    checkpoint: Origin
    date: str


class ModelFacts(CalibratedCard):
    """The card of a model that runs, by a `runtime` in words. If it is not `calibrated`, every image is referred.

    `digest` is the SHA-256, 64 hex digits, of the checkpoint, or of an export's `model.json`, which has its files' own.
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


def describe_running(card: ModelCard, **facts: Any) -> ModelFacts:
    """The card of a model that runs, from the one in its file, which has a `temperature` and a `point`."""
    stored = {name: getattr(card, name) for name in CalibratedCard.model_fields}
    return ModelFacts(**stored, **facts)
