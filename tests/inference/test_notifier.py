"""Verdicts passed on: to a command within its time, to loopback alone."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from weldnet.errors import InputError
from weldnet.inference.notifier import Notifier, check_notify
from weldnet.inference.settings import NotifySettings

ROW = {"path": "/photos/ä.jpg", "time": "2026-01-01T00:00:00.000+00:00", "sha256": "a" * 64, "verdict": "reject"}


LATE = "no answer within 2 s (notify.timeout_s)"


class Server(ThreadingHTTPServer):
    """Notes what is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted: list[tuple[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    """Answers `/<status>`; at `/slow` a byte at a time, without end."""

    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, json.loads(content)))
        if self.path == "/slow":
            while True:
                self.wfile.write(b"H")
                time.sleep(0.1)
        self.send_response(int(self.path[1:4]))
        self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


class Quiet(Server):
    def handle_error(self, *_: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    with Quiet() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def hand_on(folder: Path, **settings: Any) -> tuple[str | None, float]:
    """What is written as the error of one call, and its seconds."""
    started = time.monotonic()
    with Notifier(NotifySettings(**settings), folder) as notifier:
        notifier.submit(ROW)
        while not notifier.made:
            time.sleep(0.01)
        assert notifier.finish() == 0
    call = json.loads((folder / "calls.jsonl").read_text())
    assert notifier.made == {call["error"] is None: 1}
    assert {key: call[key] for key in ROW} == ROW
    return call["error"], time.monotonic() - started


@pytest.mark.parametrize(
    ("path", "error"),
    [("/200", None), ("/204?gate=1", None), ("/503", "status 503"), ("/302", "status 302"), ("/slow", LATE)],
)
def test_a_verdict_is_posted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, error: str | None
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    url = f"http://localhost:{server.server_port}{path}"
    got, seconds = hand_on(tmp_path, url=url, timeout_s=2.0)
    assert server.posted == [(path, ROW)], "no redirection is followed, no proxy asked"
    assert got == error
    assert seconds < 60


def test_nobody_listens(tmp_path: Path) -> None:
    with Quiet() as closed:
        port = closed.server_port
    assert "refused" in str(hand_on(tmp_path, url=f"http://127.0.0.1:{port}/")[0])


CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import json, sys; assert json.load(sys.stdin)['verdict'] == 'reject'", None),
        ("", None),
        ("import sys; print('x' * 2**20); sys.exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
        (f"{CHILD} sys.exit(0)", None),
        (f"{CHILD} time.sleep(600)", "it did not end within 5 s (notify.timeout_s)"),
    ],
)
def test_a_verdict_is_given_to_a_command(tmp_path: Path, code: str, error: str | None) -> None:
    got, seconds = hand_on(tmp_path, command=[sys.executable, "-c", code], timeout_s=5.0)
    assert (got, seconds < 60) == (error, True)


def test_no_name_of_a_file_reaches_a_terminal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Notifier(NotifySettings(["false"]), tmp_path) as notifier:
        notifier.submit(ROW | {"path": "/photos/\x1b[2J\n.jpg"})
        notifier.calls[0].result()
    assert r"/photos/\x1b[2J\n.jpg: the verdict reject was not passed on: exit code 1" in caplog.text


def test_no_shell_reads_a_command(tmp_path: Path) -> None:
    assert hand_on(tmp_path, command=["true", f"; touch {tmp_path}/made", "$(touch made)"])[0] is None
    assert [file.name for file in tmp_path.iterdir()] == ["calls.jsonl"]


def test_a_full_disk_is_not_taken_for_a_failed_call(tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl").symlink_to("/dev/full")
    with Notifier(NotifySettings(["true"]), tmp_path) as notifier:
        notifier.submit(ROW)
        with pytest.raises(OSError, match=r"No space left.*calls\.jsonl"):
            notifier.calls[0].result()
        with pytest.raises(OSError, match="No space left"):
            notifier.submit(ROW)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.7/",
        "http://example.com/",
        "https://127.0.0.1/",
        "http://127.0.0.1@example.com/",
        "http://u:p@127.0.0.1/",
        "http://127.0.0.1.example.com/",
        "http://127.0.0.1:99999/",
        "http://0.0.0.0/",
        "http://[::ffff:10.0.0.7]/",
        "http://localhost/a b",
        "http://localhost/\r\nX: y",
        "ftp://localhost/",
        "localhost:80",
        "file:///etc/passwd",
        "",
    ],
)
def test_other_machines_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="allowed are http addresses of this machine alone"):
        check_notify(NotifySettings(url=url))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/v?x=1", "http://[::1]:80/", "http://localhost"])
def test_this_machine_is_not(url: str) -> None:
    assert check_notify(NotifySettings(url=url))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"command": ["no-such-program"]}, "no program no-such-program"),
        ({"command": ["true"], "url": "http://localhost"}, "both given"),
        ({"timeout_s": 0.0}, "notify.timeout_s=0: allowed are numbers above 0"),
        ({"timeout_s": 1e12}, r"notify.timeout_s=1e\+12: allowed are numbers above 0, up to 86400"),
        ({"timeout_s": float("nan")}, "notify.timeout_s=nan: allowed are numbers above 0"),
    ],
)
def test_mistakes(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_notify(NotifySettings(**settings))
