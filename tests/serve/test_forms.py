"""What clients send: forms that are taken, and forms that are refused with what to send instead."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from serving import (
    BOUNDARY,
    CONTENT_TYPE,
    MULTIPART,
    TINY,
    Client,
    add_text,
    make_body,
    paint,
    read_lines,
)

from weldnet.serve.uploads import read_form

HOSTILE = ("../../etc/passwd", "<img src=x onerror=alert(1)>.png", "a%0Ab\u202egnp", "x" * 5000, "")
TOO_MANY = "more files than the 3 that one request may have (serve.max_images)"


@pytest.mark.parametrize(
    ("headers", "content", "status", "words"),
    [
        ({"content-type": "application/json"}, b"{}", 415, "application/json; allowed is multipart/form-data"),
        ({}, b"x", 415, "nothing; allowed is multipart"),
        ({"content-type": "multipart/form-data"}, TINY, 400, "without its boundary. send each photograph"),
        *(
            ({"content-type": f"{CONTENT_TYPE}; charset={charset}"}, TINY, 400, "the only charset is utf-8")
            for charset in ("utf-7", '"UTF-16"', "unicode_escape")
        ),
        (MULTIPART | {"transfer-encoding": "chunked", "content-length": str(len(TINY))}, TINY, 411, "chunked"),
        (
            {"content-type": f"multipart/form-data; boundary={'b' * 999}"},
            TINY,
            400,
            "cannot be read: Boundary length 999",
        ),
        (MULTIPART, b"garbage", 400, "cannot be read"),
        (MULTIPART, TINY.replace(b"\r\n\r\n", b"\r\nno header\r\n\r\n"), 400, "cannot be read"),
        (MULTIPART, TINY.replace(b"\r\n\r\n", f"\r\n--{BOUNDARY}\r\n".encode()) + TINY, 400, "cannot be read"),
        (MULTIPART, TINY[:-40], 400, "before its closing boundary"),
        (MULTIPART, f"--{BOUNDARY}--\r\n".encode(), 400, "no file in the field files"),
        (
            MULTIPART,
            make_body(("a.png", paint(1)), field="file"),
            400,
            "the field file; send each",
        ),
        (MULTIPART, TINY.replace(b'; filename="a.png"', b""), 400, "a part files without filename=; send each"),
        (
            MULTIPART,
            make_body(("a.png", bytes(5000))).replace(b'; filename="a.png"', b""),
            400,
            "a part files without filename=; send each",
        ),
        (MULTIPART, make_body(("a.png", paint(1)), field="files[]"), 400, "the field files[]; send each"),
        (MULTIPART, TINY.replace(b'name="files"; ', b""), 400, "a part without name=; send each"),
        (MULTIPART, add_text(TINY, "note", "x"), 400, "the field note; send each photograph"),
        (MULTIPART, add_text(add_text(TINY, "reference", "1"), "reference", "2"), 400, "the field reference twice"),
        (MULTIPART, make_body(("a.png", b"1"), field="reference"), 400, "the field reference as a file"),
        (MULTIPART, add_text(TINY, "reference", "x" * 256), 400, "a reference of more than 255 bytes"),
        (MULTIPART, add_text(b"", "reference", "4711"), 400, "no file in the field files; send each"),
        (
            MULTIPART,
            TINY.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1),
            400,
            "a part in base64; send its bytes as they are",
        ),
        (MULTIPART | {"content-encoding": "gzip"}, TINY, 415, "compressed (Content-Encoding: gzip); send it as it is"),
        (MULTIPART | {"x-request-id": "a b"}, TINY, 400, "X-Request-Id: allowed are 1 to 128 letters"),
        (MULTIPART | {"x-request-id": "a" * 129}, TINY, 400, "X-Request-Id: allowed are 1 to 128 letters"),
        (
            MULTIPART,
            make_body(*[("a", b"")] * 4),
            413,
            TOO_MANY,
        ),
        (
            MULTIPART,
            make_body(*[("a", b"")] * 10_000)[:90_000],
            413,
            TOO_MANY,
        ),
        (MULTIPART, bytes(200_000), 413, "0.2 MB; at most 0.1 MB (serve.max_body_mb)"),
        (MULTIPART, b"", 400, "before its closing boundary"),
        (MULTIPART | {"origin": "http://evil"}, TINY, 403, "a page of http://evil"),
        (MULTIPART | {"origin": "null"}, TINY, 403, "a page of null"),
    ],
)
def test_what_is_refused_and_why(
    client: Client, file: Path, headers: dict[str, str], content: Any, status: int, words: str
) -> None:
    answer = client.ask("/predict", "POST", content, headers)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert not read_lines(file)
    assert client.service.uploads.held == 0


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_contents_and_names_are_kept_to_the_byte(size: int) -> None:
    """However the body is cut into chunks."""
    near = (f"\r\n--{BOUNDARY[:-1]}\r\n\r\n--".encode(), f"\r\n--{BOUNDARY}x".encode())
    contents = (b"", b"\r\n", *near, paint(1), bytes(3 * 2**20))[: 6 if size > 7 else 5]
    body = make_body(*[('a;\\"b', each) for each in contents])

    async def cut() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    files = asyncio.run(read_form(CONTENT_TYPE, cut(), 6)).files
    assert [(file.name, file.content) for file in files] == [('a;"b', each) for each in contents]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("""name=files; filename=weld.png; filename*=utf-8''weld.png""", "weld.png"),
        (
            """name=files; filename="=?utf-8?B?TMOkbmdzcmlzcy5wbmc=?="; filename*=utf-8''L%C3%A4ngs%20riss.png""",
            "L\u00e4ngs riss.png",
        ),
        ("""name=files; filename*=UTF-8'de'a%3B%22b.png""", 'a;"b.png'),
        ("""name=files; filename*=iso-8859-1''wei%DF.png""", "wei\u00df.png"),
        ("""name=files; filename*=utf-8''%ff.png""", "\\xff.png"),
        ("""name=files; filename="a.png"; filename*=utf-7''b.png""", "a.png"),
    ],
)
def test_the_names_that_dot_net_sends(client: Client, disposition: str, name: str) -> None:
    body = TINY.replace(b'name="files"; filename="a.png"', disposition.encode())
    answer = client.ask("/predict", "POST", body, MULTIPART)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["file"] == name


def test_a_decision_is_found_by_the_names_that_its_client_gave(client: Client, file: Path) -> None:
    headers = MULTIPART | {"x-request-id": "line-7/0a1b"}
    answer = client.ask("/predict", "POST", add_text(TINY, "reference", "Naht \u00e4 4711"), headers)
    (record,) = read_lines(file)
    for shown in (answer.json(), record):
        assert (shown["request_id"], shown["reference"]) == ("line-7/0a1b", "Naht \u00e4 4711")
    assert answer.headers["x-request-id"] == "line-7/0a1b"
    assert client.send(("a.png", paint(1))).json()["reference"] is None


def test_nothing_is_spooled_to_disk(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a temporary file")

    for name in ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.setattr(client.service.limits, "max_body_mb", 9.0)
    assert client.send(("a", bytes(3 * 2**20))).status_code == 413, "the guard has its own"
    body = make_body(("a.png", paint(250)), ("b", bytes(90_000)))
    assert client.ask("/predict", "POST", body, MULTIPART).status_code == 200


def test_utf_8_may_be_named(client: Client) -> None:
    headers = {"content-type": f'{CONTENT_TYPE}; charset="UTF-8"'}
    assert client.ask("/predict", "POST", TINY, headers).status_code == 200


def test_hostile_names_stay_names(client: Client, file: Path) -> None:
    for name in HOSTILE:
        answer = client.send((name, paint(250)))
        if len(name) > 4000:
            assert answer.status_code == 400
            assert answer.json()["error"].startswith("the multipart body cannot be read: ")
            continue
        assert answer.status_code == 200
        assert answer.json()["results"][0]["file"] == name[:255]
    assert [record["file"] for record in read_lines(file)] == [name for name in HOSTILE if len(name) <= 4000]
    answer = client.send(("y" * 1000, paint(250)))
    assert answer.json()["results"][0]["file"] == "y" * 255


def test_a_name_that_is_not_utf_8_keeps_its_bytes(client: Client, file: Path) -> None:
    body = make_body(("weiss.png", paint(250))).replace(b"weiss", b"wei\xdf")
    answer = client.ask("/predict", "POST", body, MULTIPART)
    assert answer.json()["results"][0]["file"] == read_lines(file)[0]["file"] == "wei\\xdf.png"
