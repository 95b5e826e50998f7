"""The files of a request, read into memory within bounds."""

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from fastapi import Request
from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header
from starlette.requests import ClientDisconnect

from weldnet.serve.answers import Refusal
from weldnet.serve.limits import Limits

FIELD = "files"
"""The multipart field of the photographs."""

MAX_HELD_BODIES = 8
"""Request bodies of the largest size that fit in memory together; all uploads share that room."""
MAX_NAME = 255
"""Characters of a file name that are kept."""


class Upload(NamedTuple):
    """A file of a request: its name as the client gave it, cut at `MAX_NAME` characters, and its bytes."""

    name: str
    content: bytes


class Uploads:
    """Reads the files of requests into memory, never more than `MAX_HELD_BODIES` times `max_body` bytes at once."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.held = limits, 0

    @asynccontextmanager
    async def receive(self, request: Request, max_files: int) -> AsyncIterator[list[Upload]]:
        """The files of a request whose length the guard has checked; their memory is given back at the end."""
        length = int(request.headers["content-length"])
        if self.held + length > MAX_HELD_BODIES * self.limits.max_body:
            raise Refusal(429, "other uploads fill the server's memory; send it again")
        self.held += length
        try:
            yield await self._read(request, max_files)
        finally:
            self.held -= length

    async def _read(self, request: Request, max_files: int) -> list[Upload]:
        timeout = self.limits.request_timeout_s
        try:
            async with asyncio.timeout(timeout):
                return await read_form(request.headers.get("content-type", "nothing"), request.stream(), max_files)
        except TimeoutError:
            reason = f"the body did not arrive within {timeout:g} s (serve.request_timeout_s)"
            raise Refusal(408, reason) from None
        except ClientDisconnect:
            raise Refusal(400, "the request ended before its body did") from None


async def read_form(content_type: str, chunks: AsyncIterable[bytes], max_files: int) -> list[Upload]:
    """The files of a multipart body, at least one, none of them on disk; anything else is refused."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        reason = f"the content type is {content_type[:80]}; allowed is multipart/form-data with the field {FIELD}"
        raise Refusal(415, reason)
    # Others give names that no UTF-8 can hold, and that no record or answer can show.
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise Refusal(400, f"the content type is {content_type[:80]}; the only charset is utf-8")
    files, is_whole = list[Upload](), False

    def keep(part: File | Field) -> None:
        if part.field_name != FIELD.encode():
            raise _refuse(f"the field {_decode(part.field_name)[:80]}")
        if isinstance(part, Field):
            raise _refuse("a part without filename=")
        if len(files) == max_files:
            raise Refusal(413, f"more files than the {max_files} that one request may have")
        part.file_object.seek(0)
        files.append(Upload(_decode(part.file_name)[:MAX_NAME], part.file_object.read()))

    def end() -> None:
        nonlocal is_whole
        is_whole = True

    try:
        parser = FormParser(
            "multipart/form-data",
            keep,
            keep,
            end,
            boundary=options.get(b"boundary"),
            config={"MAX_MEMORY_FILE_SIZE": math.inf},
        )
        async for chunk in chunks:
            parser.write(chunk)
    except FormParserError as error:
        raise Refusal(400, f"the multipart body cannot be read: {error}") from error
    # Without it, the last file would be missing, and no one would notice.
    if not is_whole:
        raise Refusal(400, "the multipart body ends before its closing boundary")
    if not files:
        raise _refuse("no field")
    return files


def _decode(name: bytes | None) -> str:
    return (name or b"").decode(errors="backslashreplace")


def _refuse(found: str) -> Refusal:
    return Refusal(400, f"the request holds {found}; allowed is the field {FIELD} with files, and nothing else")
