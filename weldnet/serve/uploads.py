"""The files of a request, read into memory within bounds."""

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from weldnet.serve.answers import Refusal
from weldnet.serve.limits import Limits

FIELD = "files"
"""The multipart field of the photographs."""
REFERENCE = "reference"
"""The multipart field of text that names the part they show, such as by its number."""
HOW_TO = f"send each photograph as a file, -F {FIELD}=@weld.jpg of curl, and at most one text field {REFERENCE}"

MAX_HELD_BODIES = 8
"""Request bodies of the largest size that fit in memory together; all uploads share that room."""
MAX_NAME = 255
"""Characters of a file name that are kept."""
MAX_REFERENCE = 255
"""Bytes."""

_EXTENDED = re.compile(r";\s*filename\*\s*=\s*(utf-8|iso-8859-1)'[^';]*'([^;\s]*)", re.IGNORECASE)


class Upload(NamedTuple):
    """A file of a request: its name as the client gave it, cut at `MAX_NAME` characters, and its bytes."""

    name: str
    content: bytes


class Uploads:
    """Reads the files of requests into memory, never more than `MAX_HELD_BODIES` times `max_body` bytes at once."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.held = limits, 0

    @asynccontextmanager
    async def receive(self, request: Request, max_files: int) -> AsyncIterator["Form"]:
        """The form of a request whose length the guard has checked; their memory is given back at the end."""
        length = int(request.headers["content-length"])
        if self.held + length > MAX_HELD_BODIES * self.limits.max_body:
            raise Refusal(429, "other uploads fill the server's memory; send it again")
        self.held += length
        try:
            async with await_body(self.limits.request_timeout_s):
                content_type = request.headers.get("content-type", "nothing")
                form = await read_form(content_type, request.stream(), max_files)
            yield form
        finally:
            self.held -= length


@asynccontextmanager
async def await_body(timeout_s: float) -> AsyncIterator[None]:
    """Within it, a body is read; a Refusal where it does not arrive in time, or not as a whole."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {timeout_s:g} s (serve.request_timeout_s)") from None
    except ClientDisconnect:
        raise Refusal(400, "the request ended before its body did") from None


async def read_form(content_type: str, chunks: AsyncIterable[bytes], max_files: int) -> "Form":
    """The files of a multipart body, at least one, none of them on disk, and its reference; all else is refused."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise Refusal(415, f"the content type is {content_type[:80]}; allowed is multipart/form-data. {HOW_TO}")
    # In a different one a name may be what no UTF-8 holds, and no record or answer shows.
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise Refusal(400, f"the content type is {content_type[:80]}; the only charset is utf-8")
    if not options.get(b"boundary"):
        raise Refusal(400, f"the content type is {content_type[:80]}, without its boundary. {HOW_TO}")
    form = Form(max_files)
    try:
        parser = form.make_parser(options[b"boundary"])
        async for chunk in chunks:
            parser.write(chunk)
    except FormParserError as error:
        raise Refusal(400, f"the multipart body cannot be read: {error}") from error
    # A body that was cut off would lack its last file, and nobody would notice.
    if not form.is_whole:
        raise Refusal(400, "the multipart body ends before its closing boundary")
    if not form.files:
        raise _refuse(f"no file in the field {FIELD}")
    return form


class Form:
    """The files of one body, and the reference of what they show, if it gives one.

    A part of the body that is not taken is refused by its head, before its content.
    """

    def __init__(self, max_files: int) -> None:
        self.max_files, self.files = max_files, list[Upload]()
        self.reference: str | None = None
        self.is_whole = False

    def make_parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self.field.append(data[start:end]),
                "on_header_value": lambda data, start, end: self.value.append(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._check_head,
                "on_part_data": self._take_data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def _begin(self) -> None:
        self.field, self.value, self.chunks = list[bytes](), list[bytes](), list[bytes]()
        self.headers: dict[bytes, str] = {}
        self.length = 0

    def _end_header(self) -> None:
        self.headers[b"".join(self.field).lower()] = b"".join(self.value).decode("latin-1")
        self.field, self.value = [], []

    def _check_head(self) -> None:
        head = self.headers.get(b"content-disposition", "")
        options = parse_options_header(head)[1]
        if (name := options.get(b"name")) is None:
            raise _refuse("a part without name=")
        self.is_file, file_name = name == FIELD.encode(), _find_file_name(head, options)
        if name not in (FIELD.encode(), REFERENCE.encode()):
            raise _refuse(f"the field {_decode(name)[:80]}")
        if self.is_file and file_name is None:
            raise _refuse(f"a part {FIELD} without filename=")
        if not self.is_file and (file_name is not None or self.reference is not None):
            raise _refuse(f"the field {REFERENCE} {'as a file' if file_name is not None else 'twice'}")
        if len(self.files) == self.max_files and self.is_file:
            reason = f"more files than the {self.max_files} that one request may have (serve.max_images)"
            raise Refusal(413, reason)
        encoding = self.headers.get(b"content-transfer-encoding", "binary").strip().lower()
        if encoding not in ("binary", "8bit", "7bit"):
            raise _refuse(f"a part in {encoding[:80]}; send its bytes as they are")
        self.file_name = (file_name or "")[:MAX_NAME]

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        self.length += end - start
        if not self.is_file and self.length > MAX_REFERENCE:
            raise _refuse(f"a {REFERENCE} of more than {MAX_REFERENCE} bytes")
        self.chunks.append(data[start:end])

    def _end(self) -> None:
        content = b"".join(self.chunks)
        if self.is_file:
            self.files.append(Upload(self.file_name, content))
        else:
            self.reference = _decode(content)
        self.chunks.clear()

    def _finish(self) -> None:
        self.is_whole = True


def _find_file_name(head: str, options: dict[bytes, bytes]) -> str | None:
    """The name of a part's file: `filename*` of RFC 5987, as .NET sends it, before `filename`."""
    if found := _EXTENDED.search(head):
        charset, percented = found.groups()
        return unquote_to_bytes(percented).decode(charset.lower(), errors="backslashreplace")
    return _decode(options[b"filename"]) if b"filename" in options else None


def _decode(name: bytes) -> str:
    return name.decode(errors="backslashreplace")


def _refuse(found: str) -> Refusal:
    return Refusal(400, f"the request holds {found}; {HOW_TO}")
