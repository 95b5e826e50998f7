"""The files of a request, read into memory within bounds."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from weldnet.serve.limits import Limits, Refusal

FIELD = "files"
"""The multipart field of the photographs."""

MAX_HELD_BODIES = 8
"""Request bodies of the largest size that fit in memory together; all uploads share that room."""
MAX_NAME = 255
"""Characters of a file name that are kept."""


class Upload(NamedTuple):
    """A file of a request: its name as the client said it, cut at `MAX_NAME` characters, and its bytes."""

    name: str
    content: bytes


class MemoryParser(MultiPartParser):
    """Starlette's parser, without its files on disk: no photograph outlives its request.

    Attributes:
        is_whole: whether the closing boundary was seen.
    """

    def __init__(self, request: Request, body: AsyncGenerator[bytes, None], max_files: int, max_body: int) -> None:
        # No text field is asked for; one is let through, only to be named in the answer.
        super().__init__(request.headers, body, max_files=max_files, max_fields=1, max_part_size=1024)
        self.spool_max_size, self.is_whole = max_body, False

    def on_end(self) -> None:
        self.is_whole = True

    def close(self) -> None:
        """Lets all files go, those of a part without an end, too."""
        for file in self._files_to_close_on_error:
            file.close()


class Uploads:
    """Reads the files of requests into memory, never more than `MAX_HELD_BODIES` times `max_body` bytes at once."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.held = limits, 0

    @asynccontextmanager
    async def receive(self, request: Request, max_files: int) -> AsyncIterator[list[Upload]]:
        """The files of a request, at least one; their memory is given back at the end.

        Raises:
            Refusal: the request is not what it should be, too large or too slow, or others fill the memory.
        """
        self._check_head(request)
        size = 0

        async def count() -> AsyncGenerator[bytes, None]:
            nonlocal size
            async for chunk in request.stream():
                size, self.held = size + len(chunk), self.held + len(chunk)
                if self.held > MAX_HELD_BODIES * self.limits.max_body:
                    raise Refusal(429, "other uploads fill the server's memory; send it again", retry=True)
                yield chunk

        parser = MemoryParser(request, count(), max_files, self.limits.max_body)
        try:
            await self._parse(parser, max_files)
            yield _take_files(parser)
        finally:
            parser.close()
            self.held -= size

    def _check_head(self, request: Request) -> None:
        kind, length = request.headers.get("content-type", "nothing"), request.headers.get("content-length")
        if kind.split(";")[0].strip().lower() != "multipart/form-data":
            raise Refusal(
                415, f"the content type is {kind[:80]}; allowed is multipart/form-data with the field {FIELD}"
            )
        # Others give names that no UTF-8 can hold, and that no record or answer can tell.
        if parse_options_header(kind)[1].get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
            raise Refusal(400, f"the content type is {kind[:80]}; the only charset is utf-8")
        # Chunks of one byte would cost a thousand times what they weigh.
        if length is None or "transfer-encoding" in request.headers:
            raise Refusal(
                411,
                "the request has no Content-Length, or a Transfer-Encoding; chunked bodies are not taken",
                close=True,
            )
        if int(length) > self.limits.max_body:
            limit = f"{self.limits.max_body_mb:g} MB (serve.max_body_mb)"
            raise Refusal(413, f"the request has {int(length) / 1e6:,.1f} MB; at most {limit} are taken")

    async def _parse(self, parser: MemoryParser, max_files: int) -> None:
        timeout = self.limits.request_timeout_s
        try:
            async with asyncio.timeout(timeout):
                await parser.parse()
        except TimeoutError:
            words = f"the body did not arrive within {timeout:g} s (serve.request_timeout_s)"
            raise Refusal(408, words, close=True) from None
        except ClientDisconnect:
            raise Refusal(400, "the request ended before its body did") from None
        except MultiPartException as error:
            if error.message.startswith("Too many files"):
                raise Refusal(413, f"more files than the {max_files} that one request may have") from None
            raise Refusal(400, f"the multipart body cannot be read: {error.message}") from None
        # Without it, the last file would be missing, and no one the wiser.
        if not parser.is_whole:
            raise Refusal(400, "the multipart body ends before its closing boundary")


def _take_files(parser: MemoryParser) -> list[Upload]:
    other = next((name for name, value in parser.items if name != FIELD or not isinstance(value, UploadFile)), None)
    if other is not None or not parser.items:
        got = (
            "no field" if other is None else "a part without filename=" if other == FIELD else f"the field {other[:80]}"
        )
        raise Refusal(400, f"the request holds {got}; allowed is the field {FIELD} with files, and nothing else")
    files = [value for _, value in parser.items if isinstance(value, UploadFile)]
    return [Upload((each.filename or "")[:MAX_NAME], each.file.read()) for each in files]
