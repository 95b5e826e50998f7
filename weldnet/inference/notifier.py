"""Passes each verdict on, to the standard input of a command or to a URL of this machine."""

import ipaddress
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from itertools import dropwhile
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from weldnet.errors import InputError
from weldnet.inference.prediction_files import LINES, Row, append_rows, read_rows
from weldnet.inference.settings import NotifySettings
from weldnet.spelling import make_visible

log = logging.getLogger(__name__)

CALLS = "calls.jsonl"
"""In a folder of predictions: each call, and its error if it failed."""

MOST_SECONDS = 86_400.0
"""The longest time limit: the system cannot wait for centuries."""

MOST_CHARACTERS = 300
"""Characters that are reported of the last line of a command's standard error."""


class Notifier(ExitStack):
    """Passes rows of predictions on, one after the other, in a thread of its own. Use it as a context manager.

    Every call is recorded, so the next start finds the rows that are left. A stop, even by a kill, loses none, but the
    last row may be passed on twice. `made` counts the calls that succeeded (True) and those that failed (False).
    """

    def __init__(self, settings: NotifySettings, folder: Path) -> None:
        super().__init__()
        self.settings, self.file = settings, folder / CALLS
        self.url = check_notify(settings)
        self.is_on = bool(settings.command or self.url)
        self.made = Counter[bool]()
        self.calls = deque[Future[None]]()
        self.pool = ThreadPoolExecutor(1, "weldnet-notify")
        # Waits for the call that is running, which ends within its time limit.
        self.callback(self.pool.shutdown, cancel_futures=True)

    def finish(self) -> int:
        """Waits for the running call, drops those behind it, and returns how many rows are left for the next start."""
        self.close()
        for call in self.calls:
            if not call.cancelled():
                call.result()
        return sum(call.cancelled() for call in self.calls)

    def submit_owed(self) -> None:
        """Submits the rows that earlier runs wrote to this folder but did not pass on."""
        if not self.is_on:
            return
        rows = read_rows(self.file.with_name(LINES))
        if not self.file.exists():
            # Rows from before the first watch with a call are not passed on: the record begins after the last of them.
            with append_rows(self.file) as append:
                for row in deque(rows, 1):
                    append(_describe(row) | {"called": None, "error": None})
            return
        if last := self._read_last():
            rows = dropwhile(lambda row: (row["path"], row["time"]) != last, rows)
            if next(rows, None) is None:
                log.warning("%s names no row of %s, so rows of earlier runs are not passed on", self.file, LINES)
        for row in rows:
            self.submit(row)

    def _read_last(self) -> tuple[str, str] | None:
        """Path and time of the last row that was passed on; completes the newline of a record that a kill cut off."""
        last, line = None, b"\n"
        with self.file.open("rb") as lines:
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):
                    last = (call := json.loads(line))["path"], call["time"]
        if not line.endswith(b"\n"):
            with self.file.open("ab") as file:
                file.write(b"\n")
        return last

    def submit(self, row: Row) -> None:
        """Queues a row to be passed on; raises the error of an earlier call that could not be recorded."""
        while self.calls and self.calls[0].done():
            self.calls.popleft().result()
        if self.is_on:
            self.calls.append(self.pool.submit(self._call, row))

    def _call(self, row: Row) -> None:
        content, error = json.dumps(row, ensure_ascii=False).encode(), None
        try:
            self._post(content) if self.url else self._run(content)
        except (OSError, HTTPException) as failure:
            error = str(failure) or type(failure).__name__
            what = f"{row['path']}: the verdict {row['verdict']} was not passed on: {error}"
            log.warning("%s", make_visible(what))
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with append_rows(self.file) as append:
            append(_describe(row) | {"called": now, "error": error})
        self.made[error is None] += 1

    def _run(self, content: bytes) -> None:
        # A file, not a pipe: a child process that outlives the command would hold the pipe open and block this thread.
        with tempfile.TemporaryFile() as stderr:
            # A session of its own, so that Ctrl-C does not end it, and a kill reaches its children, too.
            process = subprocess.Popen(
                self.settings.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
            with process:
                try:
                    process.communicate(content, self.settings.timeout_s)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise TimeoutError(
                        f"it did not end within {self.settings.timeout_s:g} s (notify.timeout_s)"
                    ) from None
            if process.returncode:
                stderr.seek(0)
                lines = stderr.read(2**16).decode(errors="replace").strip().splitlines()
                last = f": {lines[-1][:MOST_CHARACTERS]}" if lines else ""
                raise OSError(f"exit code {process.returncode}{last}")

    def _post(self, content: bytes) -> None:
        assert self.url
        target = (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")
        seconds, is_over = self.settings.timeout_s, threading.Event()
        # Follows no redirect and uses no proxy: either could lead to a different machine.
        connection = HTTPConnection(self.url.hostname or "", self.url.port or 80, timeout=seconds)

        def end() -> None:
            is_over.set()
            # The connection may already be closed.
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

        # The connection's own timeout applies to each read: a slow answer would never reach it.
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        try:
            connection.connect()
            timer.start()
            connection.request("POST", target, content, {"Content-Type": "application/json"})
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            if is_over.is_set() or isinstance(error, TimeoutError):
                raise TimeoutError(f"no answer within {seconds:g} s (notify.timeout_s)") from error
            raise
        finally:
            timer.cancel()
            connection.close()
        if not 200 <= status < 300:
            raise OSError(f"status {status}")


def _describe(row: Row) -> Row:
    return {key: row[key] for key in ("path", "time", "sha256", "verdict")}


def check_seconds(key: str, seconds: float) -> None:
    """Raises an InputError unless a time limit is above 0 and at most `MOST_SECONDS`."""
    if not 0 < seconds <= MOST_SECONDS:
        raise InputError(f"{key}={seconds:g}: allowed are numbers above 0, up to {MOST_SECONDS:g} (a day)")


def check_notify(settings: NotifySettings) -> SplitResult | None:
    """Returns the URL, or None if none is given.

    Raises an InputError for a command beside a URL, a program that does not exist, or a URL of a different machine.
    """
    check_seconds("notify.timeout_s", settings.timeout_s)
    if settings.command and settings.url is not None:
        raise InputError("notify.command and notify.url are both given; type one of them")
    if settings.command and shutil.which(settings.command[0]) is None:
        raise InputError(f"notify.command: no program {settings.command[0]}; type its path, as in [/opt/line/sort.py]")
    if settings.url is None:
        return None
    try:
        url = urlsplit(settings.url)
        is_named = url.scheme == "http" and url.username is None and bool(url.port != 0)
        is_ours = url.hostname == "localhost" or ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        is_named = is_ours = False
    if not (is_named and is_ours and settings.url.isascii() and settings.url.isprintable() and " " not in settings.url):
        raise InputError(
            f"notify.url={settings.url}: allowed are http addresses of this machine alone, such as "
            "http://127.0.0.1:9000/verdict; a program there can forward the verdicts"
        )
    return url
