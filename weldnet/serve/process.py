"""From an application to a process: the address, the connections, the log, and a stop that finishes what it began."""

import ipaddress
import json
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from weldnet.errors import InputError
from weldnet.serve import guard as server_guard
from weldnet.serve.service import Service

MAX_CONNECTIONS = 512
BACKLOG = 128
"""Connections that asyncio accepts at once, before any of them can be turned away; with the others they stay below the
1,024 files that a process may usually open."""
IDLE_TIMEOUT_S = 10.0
"""A connection that has sent no whole request head, or read nothing, for so long is closed, at the latest after twice
as long."""


class Connection(H11Protocol):
    """uvicorn's connection, which alone would wait for a request's head for ever, and open without end."""

    is_refused = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._watch(None, False)

    def _watch(self, before: RequestResponseCycle | None, was_idle: bool) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        # Who does not read his answers is told no more, also while the connection waits for that to close.
        is_unread = self.flow.write_paused or self.transport.is_closing()
        is_idle = is_unread or cycle is None or cycle.response_complete
        if was_idle and is_idle and cycle is before:
            self.transport.abort()
        else:
            self.loop.call_later(IDLE_TIMEOUT_S, self._watch, cycle, is_idle)

    def data_received(self, data: bytes) -> None:
        # Read and dropped: unread, it would hide that the client is gone, and make of the end a reset.
        if not self.is_refused:
            super().data_received(data)

    def on_response_complete(self) -> None:
        # Each request that waits in line behind a delayed one would hold the connection for as long again.
        if self.cycle.scope["state"].get("is_delayed") and self.conn.trailing_data[0]:
            self.transport.close()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP waits for its answer like any other refusal."""
        self.is_refused = True
        self.loop.call_later(server_guard.DELAY_S, self._refuse, msg)

    def _refuse(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            # It has had its answer, and what came after that is the garbage.
            self.transport.close()


class JsonLines(logging.Formatter):
    """A record as a line of JSON; nothing that a client says can begin another one."""

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


def bind(host: str, port: int) -> socket.socket:
    """A socket with an address, which nobody can connect to yet.

    Args:
        host: a name or an address.
        port: 0 for any that is free.

    Raises:
        InputError: there is no such host or port, it is in use, or may not be used.
    """
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
        why = str(error.strerror).lower()
        raise InputError(f"{host} port {port}: {why}; name another, or port=0 for any that is free") from error
    return bound


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def show_address(host: str, bound: socket.socket) -> str:
    """As one types it into a browser."""
    return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"


class Server(uvicorn.Server):
    """uvicorn's server, whose application learns that it stops."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service, self.is_told = service, threading.Event()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops, or at a second signal ends at once. uvicorn's own would raise the signal once more at the end."""
        if self.is_told.is_set():
            os._exit(128 + sig)
        self.is_told.set()
        self.service.is_stopping = self.should_exit = True

    def end_at_last(self) -> None:
        """Waits for a signal, and ends the process where a thread's work, or a disk, would hold it back."""
        self.is_told.wait()
        # A second in which answers that were given up still leave.
        time.sleep(1 + (self.config.timeout_graceful_shutdown or 0))
        os._exit(0)


def make_server(app: FastAPI, timeout_s: float) -> Server:
    """A server of an application from `create_app`; its last requests may take `timeout_s` after it is told to stop."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        backlog=BACKLOG,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(timeout_s),
    )
    return Server(config, app.state.service)


def take_signals(server: Server) -> None:
    """From here on SIGTERM and SIGINT tell the server to stop, running or not yet; the process ends within its time."""
    # Not begun by the signal, which may come while the same thread is beginning another one.
    threading.Thread(target=server.end_at_last, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
