"""weldnet-serve through its real main, and as a process that gets a signal."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from calling import refuse
from fork_server import Forked, ForkServer

from weldnet.commands import serve
from weldnet.errors import propose_extra

BODY = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a\\n.jpg"\r\n\r\n%s\r\n--b--\r\n'


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("WELDNET_API_KEY", raising=False)
    return here


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "ckpt_path is not given; type ckpt_path=best or ckpt_path=RUN"),
        (["ckpt_path=nothing"], "no checkpoint at"),
        (["ckpt_path=a", "port=70000"], "port=70000: allowed are 1 to 65535"),
        (["ckpt_path=a", "host=no.such.host.invalid"], "host=no.such.host.invalid: no such address"),
        (["ckpt_path=a", "serve.max_images=0"], "serve.max_images=0: allowed are numbers above 0"),
        (["ckpt_path=a", "serve.max_queue=many"], "serve.max_queue=many"),
        (["ckpt_path=a", "serve.record=a"], "did you mean 'serve.records'?"),
        (["ckpt_path=a", "serve.records=a", "output_dir=b"], "give one of them"),
        (["ckpt_path=a", "output_dir=full"], "is not empty"),
        (["export=a.csv"], "export needs serve.records=FILE and serve.keep_images=DIR"),
    ],
)
def test_mistakes(here: Path, capsys: Any, arguments: list[str], words: str) -> None:
    (here / "full").mkdir()
    (here / "full" / "file").touch()
    assert words in refuse(capsys, "serve", "port=0", *arguments)
    assert [file.name for file in here.iterdir()] == ["full"]


def test_a_port_in_use(here: Path, capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refuse(capsys, "serve", "ckpt_path=a", f"port={port}")
        assert f"127.0.0.1 port {port}: address already in use" in message


@pytest.mark.parametrize("key", ["", "short", "with a blank in it ", "0123456789abcdeé"])
def test_a_key_that_is_none(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, key: str) -> None:
    monkeypatch.setenv("WELDNET_API_KEY", key)
    message = refuse(capsys, "serve", "ckpt_path=a", "port=0")
    assert f"WELDNET_API_KEY holds {len(key)} characters; a key has 16 or more" in message
    assert not key or key not in message


def test_the_extra_is_named_where_it_is_missing(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(serve, "NEEDED", ("fastapi", "no_such_package"))
    message = refuse(capsys, "serve", "ckpt_path=a")
    assert f"weldnet-serve needs no_such_package; type {propose_extra('serve')}" in message


@pytest.fixture
def start(forks: ForkServer, here: Path) -> Iterator[Callable[..., Forked]]:
    """Starts `weldnet-serve ...` in a process of its own."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(forks.start(here, "serve", *arguments))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_it_began(
    small: Path, here: Path, number: signal.Signals, start: Callable[..., Forked]
) -> None:
    process = start(
        f"ckpt_path={small / 'run'}", "port=0", "device=cpu", "host=localhost", "serve.hosts=[Welds.example]"
    )
    first, *_, last = process.wait_for("decisions: ").splitlines()
    assert first.startswith("weldnet-serve: http://localhost:")
    assert first.endswith("  (Ctrl-C ends it)")
    address = first.split()[1].removeprefix("http://")
    connection = HTTPConnection(address, timeout=30)
    body = BODY % (small / "welds" / "good" / "seam29_0.jpg").read_bytes()
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:100])
    other = HTTPConnection(address, timeout=30)
    other.request("GET", "/ready")
    assert other.getresponse().read()
    for host, status in (("welds.example", 200), ("evil.example", 400)):
        other.request("GET", "/ready", headers={"Host": host})
        answer = other.getresponse()
        assert (answer.status, bool(answer.read())) == (status, True)
    other.close()
    process.send_signal(number)
    connection.send(body[100:])
    answer = connection.getresponse()
    assert answer.status == 200
    result = json.loads(answer.read())["results"][0]
    connection.close()
    assert process.wait().code == 0
    (run,) = (here / "runs" / "serve").iterdir()
    (line,) = (run / "decisions.jsonl").read_text().splitlines()
    assert {key: json.loads(line)[key] for key in result} == result
    assert last == f"decisions: {run.relative_to(here) / 'decisions.jsonl'}"
    lines = [json.loads(line) for line in process.wait().err.splitlines()]
    assert {(line["path"], line["status"]) for line in lines} == {
        *(("/ready", 200), ("/ready", 400), ("/predict", 200)),
    }


@pytest.mark.slow
def test_an_open_address_without_a_key_is_warned_of(small: Path, here: Path, start: Callable[..., Forked]) -> None:
    process = start(f"ckpt_path={small / 'run'}", "port=0", "host=0.0.0.0", "serve.records=d.jsonl", "device=cpu")
    address = process.wait_for("weldnet-serve: ").split()[1]
    warned = process.wait_for("WARNING: ", error=True)
    assert warned.startswith("WARNING: host=0.0.0.0 is open to the network")
    assert (here / "d.jsonl").exists()
    assert os.listdir(here) == ["d.jsonl"]
    connection = HTTPConnection("127.0.0.1", int(address.rpartition(":")[2]), timeout=30)
    for host, status in (("10.0.0.7:8000", 200), ("evil.example", 400)):
        connection.request("GET", "/health", headers={"Host": host})
        answer = connection.getresponse()
        assert (answer.status, b"serve.hosts=[NAME]" in answer.read()) == (status, status == 400)
    connection.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait().code == 0
