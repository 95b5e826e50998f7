"""The limits of requests."""

import math
from dataclasses import dataclass, field, fields

from weldnet.errors import InputError

MAX_UPLOADS = 512
"""Requests with a body at once; further ones are answered with 503. A process may usually open 1,024 files."""


@dataclass
class Limits:
    """The limits of requests, above 0 each.

    Attributes:
        max_body_mb: of one request, in 10^6 bytes.
        max_images: of one request.
        max_megapixels: of one image, as its header claims; checked before it is decoded.
        max_queue: requests that are predicted or wait for it; one that still sends its body does not count.
        request_timeout_s: for sending a request's body, and again for its prediction.
    """

    max_body_mb: float = 64.0
    max_images: int = 64
    max_megapixels: float = 50.0
    max_queue: int = 64
    request_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for each in fields(Limits):
            value = getattr(self, each.name)
            if not 0 < value < math.inf:
                raise InputError(f"serve.{each.name}={value}: allowed are numbers above 0")

    @property
    def max_body(self) -> int:
        """Bytes."""
        return int(self.max_body_mb * 1e6)

    @property
    def max_pixels(self) -> int:
        """Of one image."""
        return int(self.max_megapixels * 1e6)


@dataclass
class ServeSettings(Limits):
    """The limits of a server, the hosts it answers to, and where decisions and reviewed photographs are kept."""

    hosts: list[str] = field(default_factory=list)
    records: str | None = None
    keep_images: str | None = None
    keep_images_mb: float = 1000.0
