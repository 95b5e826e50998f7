"""Prediction: a model's answer on one file, the only declaration of what CSV, JSON lines, HTTP and records hold."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_SHORT = 12
"""Digits of a digest that tell one file from another for people."""


def _round(shares: dict[str, float]) -> dict[str, float]:
    # Beyond it, they would depend on which other images share the batch.
    return {name: round(share, 7) for name, share in shares.items()}


class Prediction(BaseModel):
    """A model's answer on one file.

    Attributes:
        path: as it was given; `file` where a client gave it.
        sha256: of the file's content, 64 hex digits; None where it could not be read.
        predicted: the class with the highest probability.
        unlike_training: None where the model is not calibrated.
        damaged: the file is, so that part of the picture can be wrong: it is referred; None where it could not be read.
        probabilities: by class, calibrated, to seven decimals; in a row a column `p_<class>` each.
        model_digest: `ModelFacts.digest`.
        time: of the prediction, ISO 8601, UTC.
        error: why there is no prediction; None where there is one.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    path: str = Field(serialization_alias="file")
    sha256: str | None
    predicted: str | None = None
    verdict: str | None = None
    unlike_training: bool | None = None
    damaged: bool | None = None
    probabilities: Annotated[dict[str, float], AfterValidator(_round)] = {}
    model_digest: str
    time: str
    error: str | None = None

    def to_row(self, classes: Sequence[str]) -> dict[str, Any]:
        """Flat, with the keys of `name_columns`."""
        values = dict(self) | {f"p_{name}": share for name, share in self.probabilities.items()}
        return {column: values.get(column) for column in name_columns(classes)}


def name_columns(classes: Sequence[str]) -> list[str]:
    """The columns of a row: the fields, with one for each class instead of the probabilities."""
    scores = [f"p_{name}" for name in classes]
    return [column for name in Prediction.model_fields for column in (scores if name == "probabilities" else [name])]


def to_cells(row: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """A row for a spreadsheet: with `probability`, that of the predicted class, and digests cut to 12 digits."""
    values: dict[str, Any] = {column: row.get(column) for column in name_columns(classes)}
    for digest in ("sha256", "model_digest"):
        values[digest] = values[digest] and values[digest][:_SHORT]
    first = {"path": values.pop("path"), "predicted": (predicted := values.pop("predicted"))}
    return first | {"probability": None if predicted is None else row[f"p_{predicted}"]} | values
