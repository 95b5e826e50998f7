"""From an application to a process: the address, the log, and a stop that finishes what it began."""

import ipaddress
import json
import logging
import math
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import uvicorn
from fastapi import FastAPI

from weldnet.errors import InputError
from weldnet.serve.service import Service


class JsonLines(logging.Formatter):
    """A record as a line of JSON; nothing that a client sends can begin a new one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(line | ({"traceback": self.formatException(record.exc_info)} if record.exc_info else {}))


def log_as_json() -> None:
    """All logs of the process as JSON lines on standard error; of weldnet's server from INFO on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("weldnet.serve").setLevel(logging.INFO)
    # Its warnings advise on packages to install; the answer states what it refuses, and the guard warns of crowds.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


def bind(host: str, port: int) -> socket.socket:
    """A socket with an address, which nobody can connect to yet, or an InputError; port 0 is any that is free."""
    if not 0 <= port < 2**16:
        raise InputError(f"port={port}: allowed are 1 to 65535, and 0 for any that is free")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"host={host}: no such address of this machine; 127.0.0.1 is itself, 0.0.0.0 all") from error
    # With the protocol named, asyncio sends each answer at once; without, TCP holds its second half back for 40 ms.
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        cause = str(error.strerror).lower()
        raise InputError(
            f"{host} port {port}: {cause}; name a different one, or port=0 for any that is free"
        ) from error
    return bound


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def show_address(host: str, bound: socket.socket) -> str:
    """As one types it into a browser."""
    return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"


def make_server(app: FastAPI, timeout_s: float) -> uvicorn.Server:
    """A server of an application; its last requests may take `timeout_s` after a stop is requested."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(timeout_s),
    )
    return uvicorn.Server(config)


def take_signals(server: uvicorn.Server, service: Service) -> None:
    """From here on SIGTERM and SIGINT stop the server, running or not yet; the process ends within its time.

    A second signal ends the process at once.
    """

    def stop(number: int, _: object) -> None:
        if service.is_stopping:
            os._exit(0 if number == signal.SIGALRM else 128 + number)
        service.is_stopping = server.should_exit = True
        # A second in which answers that were given up still leave; then a thread's work, or a disk, holds nothing back.
        signal.alarm(1 + (server.config.timeout_graceful_shutdown or 0))

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, stop)


def run_server(server: uvicorn.Server, bound: socket.socket) -> None:
    """Serves until a stop is requested, in a thread of its own: in the main one uvicorn takes the signals."""
    with ThreadPoolExecutor(1, "weldnet-serve") as pool:
        pool.submit(server.run, [bound]).result()
