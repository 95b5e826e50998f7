"""A served model that needs no training, and what clients send it."""

import asyncio
import io
import json
import struct
import threading
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image

from weldnet.data.decode.images import Geometry
from weldnet.evaluation.verdicts import OperatingPoint
from weldnet.inference.engines import Engine, Scores
from weldnet.inference.model_card import ModelFacts
from weldnet.inference.predictor import Predictor
from weldnet.serve.app import create_app
from weldnet.serve.limits import Limits
from weldnet.serve.process import bind, make_server
from weldnet.serve.records import DecisionRecords
from weldnet.serve.service import Service

BOUNDARY = "b0undary"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"

MULTIPART = {"content-type": CONTENT_TYPE}
"""The headers of `make_body`."""
LIMITS = Limits(max_body_mb=0.1, max_images=3, max_megapixels=50.0)

FACTS = ModelFacts(
    classes=["good", "pore"],
    geometry=Geometry(height=8, width=4),
    vocabulary={},
    split_digest="",
    versions={},
    git_commit=None,
    temperature=1.0,
    point=OperatingPoint(0.75, 0.25, ("good",), 0.05, 0.05, 0.95, 60, 60),
    calibrated=True,
    digest="d" * 64,
    checkpoint_digest="c" * 64,
    runtime="brightness",
)


class Brightness(Engine):
    """Calls an image good by its mean brightness, and unlike training where it is all black.

    While `gate` is shut it does not answer.
    """

    facts = FACTS

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()

    def score(self, images: NDArray[np.uint8]) -> Scores:
        assert self.gate.wait(30)
        good = images.mean(axis=(1, 2, 3)) / 255
        return Scores(np.stack([good, 1 - good], axis=1), np.where(good > 0, 0.5, 2.0))


def paint(brightness: int) -> bytes:
    """A grey PNG."""
    file = io.BytesIO()
    Image.fromarray(np.full((10, 5, 3), brightness, np.uint8)).save(file, "PNG")
    return file.getvalue()


def claim_pixels(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes whose header claims more pixels than it has."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def make_body(*files: tuple[str, bytes], field: str = "files") -> bytes:
    """A multipart body."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def make_head(length: int, path: str = "/predict") -> bytes:
    """The head of a POST request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def post(port: int, *files: tuple[str, bytes], path: str = "/predict") -> tuple[int, Any]:
    """Status and JSON of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, make_body(*files), {"Content-Type": CONTENT_TYPE})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def add_text(body: bytes, field: str, value: str) -> bytes:
    """A body with a text field before its files."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
    return part + (body or f"--{BOUNDARY}--\r\n".encode())


class Client:
    """Asks an application in this process; use it as a context manager."""

    def __init__(self, app: FastAPI) -> None:
        self.service: Service = app.state.service
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://testserver")

    def __enter__(self) -> "Client":
        self.runner = asyncio.Runner()
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()

    def ask(
        self, path: str, method: str = "GET", content: Any = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        sent = httpx.Headers(headers, encoding="latin-1")
        return self.runner.run(self.client.request(method, path, content=content, headers=sent))

    def send(self, *files: tuple[str, bytes], headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Posts files to /predict."""
        return self.ask("/predict", "POST", make_body(*files), {"content-type": CONTENT_TYPE, **(headers or {})})


@contextmanager
def listening(file: Path, engine: Engine, limits: Limits, api_key: str | None = None) -> Iterator[int]:
    """A server in a thread, within; its port."""
    with (
        bind("127.0.0.1", 0) as bound,
        Predictor(engine, 2) as predictor,
        DecisionRecords(file, engine.facts) as records,
    ):
        bound.listen()
        port = bound.getsockname()[1]
        server = make_server(create_app(predictor, records, limits, api_key=api_key), 5)
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@contextmanager
def opened(
    predictor: Predictor, file: Path, api_key: str | None = None, hosts: Collection[str] | None = None
) -> Iterator[Client]:
    """A client of a served predictor, within."""
    with DecisionRecords(file, FACTS) as records:
        app = create_app(predictor, records, LIMITS, api_key=api_key, hosts=hosts)
        with Client(app) as client:
            yield client


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a record of decisions."""
    return [json.loads(line) for line in file.read_text().splitlines()]


TINY = make_body(("a.png", paint(1)))
