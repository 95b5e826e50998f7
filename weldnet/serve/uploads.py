"""The files of a request, read into memory within bounds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from weldnet.serve.answers import Refusal
from weldnet.serve.limits import Limits

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

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
    """What was read of a multipart body, never to disk: no photograph outlives its request.

    Attributes:
        files: those that were read to their end.
        is_whole: whether the closing boundary was read.
    """

    def __init__(self, max_files: int) -> None:
        self.max_files, self.files, self.is_whole = max_files, list[Upload](), False
        self._header = self._value = self._disposition = b""
        # Not a list: a body can be made of very many small pieces.
        self._content = bytearray()

    def open_parser(self, boundary: bytes) -> MultipartParser:
        """A parser of the body, which fills this form.

        Raises:
            FormParserError: the boundary is too long; from its `write`: the body is no form.
            Refusal: from its `write`: a part is no file of `FIELD`, or one too many.
        """
        callbacks: MultipartCallbacks = {
            "on_header_field": self._add_to_header,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._check_part,
            "on_part_data": self._add_to_content,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        return MultipartParser(boundary, callbacks)

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _check_part(self) -> None:
        options = parse_options_header(self._disposition)[1]
        field = _decode(options.get(b"name", b""))
        if field != FIELD:
            raise _refuse(f"the field {field[:80]}")
        if b"filename" not in options:
            raise _refuse("a part without filename=")
        if len(self.files) == self.max_files:
            raise Refusal(413, f"more files than the {self.max_files} that one request may have")
        self._name, self._disposition = _decode(options[b"filename"])[:MAX_NAME], b""

    def _add_to_content(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _end_part(self) -> None:
        self.files.append(Upload(self._name, bytes(self._content)))
        self._content.clear()

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
        length, form = int(request.headers["content-length"]), Form(max_files)
        if self.held + length > MAX_HELD_BODIES * self.limits.max_body:
            raise Refusal(429, "other uploads fill the server's memory; send it again")
        self.held += length
        try:
            await self._read(request, form)
            yield form.files
        finally:
            self.held -= length

    async def _read(self, request: Request, form: Form) -> None:
        boundary = _find_boundary(request.headers.get("content-type", "nothing"))
        timeout = self.limits.request_timeout_s
        try:
            parser = form.open_parser(boundary)
            async with asyncio.timeout(timeout):
                async for chunk in request.stream():
                    parser.write(chunk)
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


def _find_boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        reason = f"the content type is {content_type[:80]}; allowed is multipart/form-data with the field {FIELD}"
        raise Refusal(415, reason)
    # Others give names that no UTF-8 can hold, and that no record or answer can show.
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise Refusal(400, f"the content type is {content_type[:80]}; the only charset is utf-8")
    if b"boundary" not in options:
        raise Refusal(400, "the multipart body cannot be read: Missing boundary in multipart.")
    return options[b"boundary"]


def _refuse(found: str) -> Refusal:
    return Refusal(400, f"the request holds {found}; allowed is the field {FIELD} with files, and nothing else")


def _decode(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
