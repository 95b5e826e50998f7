"""What the server answers, as `/openapi.json` and `/docs` tell it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """What was said of one file; `error` says why there is no verdict."""

    file: str
    sha256: str | None
    predicted: str | None
    verdict: str | None
    unlike_training: bool | None
    damaged: bool | None
    probabilities: dict[str, float]
    error: str | None


@dataclass(frozen=True)
class Answer:
    """Results in the order of the files. `error` is null if any file could be read."""

    results: list[Result]
    model_digest: str
    request_id: str
    error: str | None = None


@dataclass(frozen=True)
class Problem:
    """What was wrong, and what is allowed."""

    error: str
