"""What loads a server: clients that send photographs."""

import asyncio
import itertools
import re
import time
from collections.abc import Sequence

HEAD = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = '--b\r\nContent-Disposition: form-data; name="files"; filename="{}"\r\n\r\n'

Answer = tuple[float, float, int]
"""When it was asked, how long it took, both in seconds, and its HTTP status."""


def make_request(*files: tuple[str, bytes]) -> bytes:
    """The bytes of a request."""
    body = b"".join(PART.format(name).encode() + content + b"\r\n" for name, content in files) + b"--b--\r\n"
    return f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body


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


async def load(port: int, requests: Sequence[bytes], num_clients: int, stop: float) -> list[Answer]:
    """The answers that so many clients got until `stop`."""
    answers: list[Answer] = []
    turns = [number % len(requests) for number in range(num_clients)]
    await asyncio.gather(*(exchange(port, [*requests[turn:], *requests[:turn]], stop, answers) for turn in turns))
    return answers
