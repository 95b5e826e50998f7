"""The files of a request, read into memory within bounds."""

import asyncio
import math
from collections.abc import AsyncIterator
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


class Form:
    """Reads a multipart body, never to disk: no photograph outlives its request.

    Attributes:
        files: those that were read to their end.
        is_whole: whether the closing boundary was read.

    Raises:
        Refusal: the content type is not multipart/form-data in UTF-8.
    """

    def __init__(self, content_type: str, max_files: int) -> None:
        self.max_files, self.files, self.is_whole = max_files, list[Upload](), False
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            reason = f"the content type is {content_type[:80]}; allowed is multipart/form-data with the field {FIELD}"
            raise Refusal(415, reason)
        # Others give names that no UTF-8 can hold, and that no record or answer can show.
        if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
            raise Refusal(400, f"the content type is {content_type[:80]}; the only charset is utf-8")
        if b"boundary" not in options:
            raise Refusal(400, "the multipart body cannot be read: Missing boundary in multipart.")
        in_memory = {"MAX_MEMORY_FILE_SIZE": math.inf}
        self.parser = FormParser(
            "multipart/form-data", self._take_field, self._take_file, self._end, options[b"boundary"], config=in_memory
        )

    def _take_file(self, file: File) -> None:
        if file.field_name != FIELD.encode():
            self._take_field(file)
        if len(self.files) == self.max_files:
            raise Refusal(413, f"more files than the {self.max_files} that one request may have")
        file.file_object.seek(0)
        self.files.append(Upload(_decode(file.file_name)[:MAX_NAME], file.file_object.read()))

    def _take_field(self, field: Field | File) -> None:
        name = _decode(field.field_name)
        raise _refuse("a part without filename=" if name == FIELD else f"the field {name[:80]}")

    def _end(self) -> None:
        self.is_whole = True


class Uploads:
    """Reads the files of requests into memory, never more than `MAX_HELD_BODIES` times `max_body` bytes at once."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.held = limits, 0

    @asynccontextmanager
    async def receive(self, request: Request, max_files: int) -> AsyncIterator[list[Upload]]:
        """The files of a request, at least one; their memory is given back at the end.

        Args:
            request: whose length the guard has checked.
            max_files: that it may have.

        Raises:
            Refusal: the request is not what it should be or too slow, or others fill the memory.
        """
        form, length = (
            Form(request.headers.get("content-type", "nothing"), max_files),
            request.headers["content-length"],
        )
        if self.held + int(length) > MAX_HELD_BODIES * self.limits.max_body:
            raise Refusal(429, "other uploads fill the server's memory; send it again")
        self.held += int(length)
        try:
            await self._read(request, form)
            yield form.files
        finally:
            self.held -= int(length)

    async def _read(self, request: Request, form: Form) -> None:
        timeout = self.limits.request_timeout_s
        try:
            async with asyncio.timeout(timeout):
                async for chunk in request.stream():
                    form.parser.write(chunk)
        except TimeoutError:
            reason = f"the body did not arrive within {timeout:g} s (serve.request_timeout_s)"
            raise Refusal(408, reason) from None
        except ClientDisconnect:
            raise Refusal(400, "the request ended before its body did") from None
        except FormParserError:
            raise Refusal(400, "the multipart body cannot be read: Invalid multipart data.") from None
        # Without it, the last file would be missing, and no one would notice.
        if not form.is_whole:
            raise Refusal(400, "the multipart body ends before its closing boundary")
        if not form.files:
            raise _refuse("no field")


def _refuse(found: str) -> Refusal:
    return Refusal(400, f"the request holds {found}; allowed is the field {FIELD} with files, and nothing else")


def _decode(name: bytes | None) -> str:
    return (name or b"").decode(errors="backslashreplace")
