"""What loads a server: clients that send photographs, and hostile ones."""

import asyncio
import io
import itertools
import os
import re
import time
from collections.abc import Sequence

from PIL import Image

HEAD = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = '--b\r\nContent-Disposition: form-data; name="files"; filename="{}"\r\n\r\n'

Answer = tuple[float, float, int]
"""When it was asked, how long it took, both in seconds, and its HTTP status."""
Hostile = tuple[bytes, float]
"""What a hostile client sends, and for how many seconds it then waits."""


def make_request(*files: tuple[str, bytes]) -> bytes:
    """The bytes of a request."""
    body = b"".join(PART.format(name).encode() + content + b"\r\n" for name, content in files) + b"--b--\r\n"
    return f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body


def draw_bomb() -> bytes:
    """A PNG of a few kilobytes and 100 megapixels."""
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    return file.getvalue()


async def exchange(port: int, requests: Sequence[bytes], stop: float, answers: list[Answer]) -> None:
    """One client: sends its requests in turn over one connection until `stop`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in itertools.cycle(requests):
        started = time.perf_counter()
        if started > stop:
            break
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head)
        assert length
        await reader.readexactly(int(length[1]))
        answers.append((started, time.perf_counter() - started, int(head.split()[1])))
        if answers[-1][2] == 429:
            # As the answer asks for.
            await asyncio.sleep(1)
    writer.close()


async def annoy(port: int, request: bytes, stop: float, wait_s: float) -> int:
    """One hostile client: opens, sends, waits a little, and leaves without a word; how often it did."""
    for sent in itertools.count():
        if time.perf_counter() > stop:
            return sent
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            await asyncio.wait_for(reader.read(65536), wait_s)
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()
        await asyncio.sleep(0.02)
    raise AssertionError("it counts for ever")


def annoy_all(port: int, hostile: Sequence[Hostile], stop: float) -> int:
    """Hostile clients, one of each kind, in a process of their own; how many requests they sent."""

    async def run_all() -> list[int]:
        return await asyncio.gather(*(annoy(port, request, stop, wait_s) for request, wait_s in hostile))

    return sum(asyncio.run(run_all()))


def list_hostile(photograph: bytes) -> dict[str, Hostile]:
    """Kinds of hostile clients."""
    whole = make_request(("a.jpg", photograph))
    return {
        "half a head": (whole[:40], 1.0),
        "half a body": (whole[: len(whole) // 2], 1.0),
        "garbage": (os.urandom(1000) + b"\r\n\r\n", 1.0),
        "a bomb": (make_request(("bomb.png", draw_bomb())), 5.0),
        "10,000 files": (make_request(*[("a", b"x")] * 10_000), 5.0),
    }


async def load(port: int, requests: Sequence[bytes], num_clients: int, stop: float) -> list[Answer]:
    """The answers that so many clients got until `stop`."""
    answers: list[Answer] = []
    turns = [number % len(requests) for number in range(num_clients)]
    await asyncio.gather(*(exchange(port, [*requests[turn:], *requests[:turn]], stop, answers) for turn in turns))
    return answers
