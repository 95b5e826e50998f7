"""What the server answers, as `/openapi.json` and `/docs` describe it."""

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from weldnet.inference.model_card import ModelFacts
from weldnet.inference.prediction import Prediction
from weldnet.serve.limits import Limits

HEADERS = {
    408: {"connection": "close"},
    411: {"connection": "close"},
    429: {"retry-after": "1"},
    503: {"retry-after": "1"},
}
"""By status: the rest of the request is not worth reading, or the same one may succeed in a moment."""


USABLE_ID = "[!-~]{1,128}"
"""What the id of a request may be, as a regular expression."""

EVIDENCE = "X-Evidence"
"""The header of a heatmap: 1 if it shows evidence for the class, else 0."""


class Refusal(Exception):
    """An answer without a result: its HTTP status, and what is wrong and what is allowed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason

    def to_response(self) -> JSONResponse:
        """`{"error": reason}`."""
        return JSONResponse({"error": self.reason}, self.status, HEADERS.get(self.status))


class Answer(BaseModel):
    """Results in the order of the files. `error` is null if any file could be read.

    `request_id` is the request's `X-Request-Id`, or the server's own; `reference` is the text that was sent with it.
    """

    results: list[Prediction]
    model_digest: str
    request_id: str
    reference: str | None = None
    error: str | None = None


class Problem(BaseModel):
    """What is wrong, and what is allowed."""

    error: str


class Review(BaseModel):
    """What a person thinks of a decision: agrees, or overrules it with the class that the photograph shows."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: str = Field(pattern=f"^{USABLE_ID}$")
    file: str = Field(max_length=255)
    agree: bool
    label: str | None = Field(default=None, max_length=255)
    reference: str | None = Field(default=None, max_length=255)
    name: str = Field(pattern=r"\S", max_length=100)
    remark: str = Field(default="", max_length=2000)


class Status(BaseModel):
    """`alive`, `ready` or `recorded`."""

    status: str


class ServedModel(ModelFacts):
    """The model, the run that it comes from, the limits of requests, and whether `/explain` answers.

    `headline` is whether the model may decide alone, and `rule` how it decides, both as the page shows them.
    """

    run: str
    headline: str
    rule: list[str]
    limits: Limits
    explains: bool
