"""What a server takes, and its answer beyond that."""

import math
from dataclasses import asdict, dataclass

from starlette.responses import JSONResponse

from weldnet.errors import InputError

RETRY_AFTER_S = 1


class Refusal(Exception):
    """An answer without a result: its HTTP status, and in words what was wrong and what is allowed.

    Args:
        retry: whether the same request may succeed in a moment.
        close: whether the rest of the request is not worth reading.
    """

    def __init__(self, status: int, words: str, *, retry: bool = False, close: bool = False) -> None:
        super().__init__(words)
        self.status, self.words, self.retry, self.close = status, words, retry, close

    def to_response(self) -> JSONResponse:
        """`{"error": words}`."""
        headers = {"retry-after": str(RETRY_AFTER_S)} if self.retry else {}
        return JSONResponse(
            {"error": self.words}, self.status, headers | ({"connection": "close"} if self.close else {})
        )


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        max_body_mb: of one request, in 10^6 bytes.
        max_images: of one request.
        max_megapixels: of one image, as its header claims; told before it is decoded.
        max_queue: requests that are judged or wait for it; one that still sends its body does not count.
        request_timeout_s: for sending a request's body, and again for judging it.

    Raises:
        InputError: one of them is not above 0.
    """

    max_body_mb: float = 64.0
    max_images: int = 64
    max_megapixels: float = 50.0
    max_queue: int = 64
    request_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < math.inf:
                raise InputError(f"serve.{name}={value}: allowed are numbers above 0")

    @property
    def max_body(self) -> int:
        """Bytes."""
        return int(self.max_body_mb * 1e6)
