"""The files of a request, read into memory within bounds."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from fastapi import Request
from fastapi.datastructures import Headers
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from weldnet.serve.answers import Refusal
from weldnet.serve.limits import Limits

FIELD = "files"
"""The multipart field of the photographs."""

MAX_HELD_BODIES = 8
"""Request bodies of the largest size that fit in memory together; all uploads share that room."""
MAX_HEAD = 4096
"""Bytes of a part's headers."""
HEAD = re.compile(rb"(?:\r\n[!#$%&'*+.^_`|~\w-]+:[^\r\n]*)*", re.ASCII)
"""A part's headers."""
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
        """The files of a request, at least one; their memory is given back at the end.

        Args:
            request: whose length the guard has checked.
            max_files: that it may have.

        Raises:
            Refusal: the request is not what it should be or too slow, or others fill the memory.
        """
        boundary, length = _find_boundary(request.headers), int(request.headers["content-length"])
        if self.held + length > MAX_HELD_BODIES * self.limits.max_body:
            raise Refusal(429, "other uploads fill the server's memory; send it again")
        self.held += length
        try:
            yield split_form(await self._read(request), boundary, max_files)
        finally:
            self.held -= length

    async def _read(self, request: Request) -> bytearray:
        body, timeout = bytearray(), self.limits.request_timeout_s
        try:
            async with asyncio.timeout(timeout):
                async for chunk in request.stream():
                    body += chunk
        except TimeoutError:
            reason = f"the body did not arrive within {timeout:g} s (serve.request_timeout_s)"
            raise Refusal(408, reason) from None
        except ClientDisconnect:
            raise Refusal(400, "the request ended before its body did") from None
        return body


def _find_boundary(headers: Headers) -> bytes:
    content_type = headers.get("content-type", "nothing")
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        reason = f"the content type is {content_type[:80]}; allowed is multipart/form-data with the field {FIELD}"
        raise Refusal(415, reason)
    # Others give names that no UTF-8 can hold, and that no record or answer can show.
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise Refusal(400, f"the content type is {content_type[:80]}; the only charset is utf-8")
    if not options.get(b"boundary"):
        raise Refusal(400, "the multipart body cannot be read: Missing boundary in multipart.")
    return options[b"boundary"]


def split_form(body: bytearray, boundary: bytes, max_files: int) -> list[Upload]:
    """The files of a multipart body, at least one, as RFC 7578 has them.

    Raises:
        Refusal: the body is no form, or holds too many files or anything else.
    """
    delimiter, files = b"\r\n--" + boundary, list[Upload]()
    if body and not body.startswith((delimiter, delimiter[2:])):
        raise Refusal(400, "the multipart body cannot be read: Invalid multipart data.")
    end = len(delimiter) - (0 if body.startswith(delimiter) else 2)
    while body[end : end + 2] == b"\r\n":
        start = body.find(b"\r\n\r\n", end, end + MAX_HEAD)
        if start < 0 or not HEAD.fullmatch(body, end, start):
            raise Refusal(400, "the multipart body cannot be read: Invalid multipart data.")
        name = _find_name(bytes(body[end:start]))
        if len(files) == max_files:
            raise Refusal(413, f"more files than the {max_files} that one request may have")
        if (stop := body.find(delimiter, start + 4)) < 0:
            break
        files.append(Upload(name, bytes(memoryview(body)[start + 4 : stop])))
        end = stop + len(delimiter)
    # Without it, the last file would be missing, and no one would notice.
    if body[end : end + 2] != b"--":
        raise Refusal(400, "the multipart body ends before its closing boundary")
    if not files:
        raise _refuse("no field")
    return files


def _find_name(head: bytes) -> str:
    """The file name in a part's headers."""
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    disposition = next((value for name, _, value in lines if name.lower() == b"content-disposition"), b"")
    options = parse_options_header(disposition)[1]
    field = options.get(b"name", b"").decode(errors="backslashreplace")
    if field != FIELD:
        raise _refuse(f"the field {field[:80]}")
    if b"filename" not in options:
        raise _refuse("a part without filename=")
    return options[b"filename"].decode(errors="backslashreplace")[:MAX_NAME]


def _refuse(found: str) -> Refusal:
    return Refusal(400, f"the request holds {found}; allowed is the field {FIELD} with files, and nothing else")
