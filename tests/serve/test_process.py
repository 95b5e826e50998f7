"""The server on a real port: broken and too many clients, its stop, and a log that nobody forges."""

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest
from serving import Brightness, listening, make_body, make_head, paint, post

from weldnet.serve.limits import Limits
from weldnet.serve.process import JsonLines
from weldnet.serve.uploads import MAX_HELD_BODIES


def say(port: int, content: bytes) -> bytes:
    """What the server answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(content)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


def test_slow_and_broken_clients_stop_no_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = make_body(("a.png", paint(250)))
    with listening(tmp_path / "d", Brightness(), Limits(request_timeout_s=0.4)) as port:
        assert say(port, b"\x16\x03\x01 garbage\r\n\r\n").startswith(b"HTTP/1.1 400")
        slow = say(port, make_head(len(body)) + body[:50])
        assert slow.startswith(b"HTTP/1.1 408")
        assert b"did not arrive within 0.4 s" in slow
        for path in ("/predict", "/reviews"):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(make_head(len(body), path) + body[:50])
        chunked = make_head(1).replace(b"Content-Length: 1", b"Transfer-Encoding: chunked")
        assert say(port, chunked + b"1\r\nx\r\n").startswith(b"HTTP/1.1 411")
        assert post(port, ("a.png", paint(250)))[0] == 200
    assert "the server failed" not in caplog.text


def test_a_wrong_key_is_refused_before_the_body_is_sent(tmp_path: Path) -> None:
    with (
        listening(tmp_path / "d", Brightness(), Limits(), api_key="0123456789abcdef") as port,
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
    ):
        connection.sendall(make_head(1_000_000))
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")


def test_uploads_at_once_are_bounded_and_the_log_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("weldnet.serve.guard.MAX_UPLOADS", 2)
    with listening(tmp_path / "d", Brightness(), Limits()) as port:
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        for client in slow:
            client.sendall(make_head(10_000) + make_body(("a", bytes(9000)))[:200])
        until(lambda: post(port, ("a.png", paint(250)))[0] == 503)
        status, answer = post(port, ("a.png", paint(250)))
        assert (status, answer["error"][:24]) == (503, "2 uploads are under way,")
        assert say(port, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").startswith(b"HTTP/1.1 200")
        for client in slow:
            client.close()
        until(lambda: post(port, ("a.png", paint(250)))[0] == 200)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "put a proxy in front that buffers them" in warning


def test_uploads_share_one_room(tmp_path: Path) -> None:
    limits = Limits(max_body_mb=0.01)
    with listening(tmp_path / "d", Brightness(), limits) as port:
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(MAX_HELD_BODIES)]
        for client in clients:
            client.sendall(make_head(10_000) + make_body(("a", bytes(20_000)))[:9_990])
        until(lambda: post(port, ("a.png", paint(250)))[0] == 429)
        for client in clients:
            client.close()
        until(lambda: post(port, ("a.png", paint(250)))[0] == 200)


def until(is_true: Callable[[], bool]) -> None:
    for _ in range(200):
        if is_true():
            return
        time.sleep(0.02)
    raise AssertionError("it never was")


def test_the_queue_is_bounded_and_empties(tmp_path: Path) -> None:
    engine = Brightness()
    with listening(tmp_path / "d", engine, Limits(max_queue=2)) as port, ThreadPoolExecutor(2) as clients:
        engine.gate.clear()
        waiting = [clients.submit(post, port, ("a.png", paint(250))) for _ in range(2)]
        until(lambda: count_waiting(port) == 2)
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        body = make_body(("a.png", paint(250)))
        connection.request("POST", "/predict", body, {"Content-Type": "multipart/form-data; boundary=b0undary"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert "2 requests are already waiting (serve.max_queue)" in json.loads(answer.read())["error"]
        connection.close()
        engine.gate.set()
        assert [job.result()[0] for job in waiting] == [200, 200]
        until(lambda: count_waiting(port) == 0)
    assert len((tmp_path / "d").read_text().splitlines()) == 2


def count_waiting(port: int) -> float:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return float(text.split("\nweldnet_queue_length ")[1].split()[0])


def test_what_takes_too_long_is_given_up_and_counts_as_queued_till_it_ends(tmp_path: Path) -> None:
    engine = Brightness()
    with listening(tmp_path / "d", engine, Limits(max_queue=1, request_timeout_s=0.3)) as port:
        engine.gate.clear()
        status, response = post(port, *[("a.png", paint(250))] * 5)
        assert status == 503
        assert "no answer within 0.3 s (serve.request_timeout_s)" in response["error"]
        assert post(port, ("a.png", paint(250)))[0] == 429
        engine.gate.set()
        until(lambda: post(port, ("a.png", paint(250)))[0] == 200)
    assert len((tmp_path / "d").read_text().splitlines()) == 1, "only sent predictions are recorded"


def test_a_stop_lets_requests_end(tmp_path: Path) -> None:
    engine = Brightness()
    with ThreadPoolExecutor(1) as clients:
        with listening(tmp_path / "d", engine, Limits()) as port:
            engine.gate.clear()
            waiting = clients.submit(post, port, ("a.png", paint(250)))
            until(lambda: count_waiting(port) == 1)
            threading.Timer(0.3, engine.gate.set).start()
        assert waiting.result()[0] == 200


BUSY = """
import sys
from pathlib import Path
from serving import Brightness, Limits, Predictor, DecisionRecords, bind, create_app, make_server
from weldnet.serve.process import run_server, take_signals
engine = Brightness()
with (
    bind("127.0.0.1", 0) as bound,
    Predictor(engine, 1) as predictor,
    DecisionRecords(Path(sys.argv[1]), engine.facts) as records,
):
    app = create_app(predictor, records, Limits())
    server = make_server(app, float(sys.argv[2]))
    take_signals(server, app.state.service)
    bound.listen()
    engine.gate.clear()
    predictor.pool.submit(engine.score, None)
    print("ready", flush=True)
    run_server(server, bound)
"""


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_waits_for_no_thread_for_ever(tmp_path: Path, signals: int) -> None:
    command = [sys.executable, "-c", BUSY, str(tmp_path / "d"), "1" if signals == 1 else "60"]
    started = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
    with started as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            for number in (signal.SIGTERM, signal.SIGINT)[:signals]:
                process.send_signal(number)
                time.sleep(0.5)
            assert process.wait(10) == (0 if signals == 1 else 128 + signal.SIGINT)
        finally:
            process.kill()


def test_no_name_forges_a_line_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "weldnet.serve")
    with listening(tmp_path / "d", Brightness(), Limits()) as port:
        say(port, b"GET /%0A%7B%22forged%22 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    record = next(record for record in caplog.records if record.name == "weldnet.serve.guard")
    (line,) = JsonLines().format(record).splitlines()
    fields = json.loads(line)
    assert (fields["path"], fields["status"], fields["method"]) == ('/\n{"forged"', 404, "GET")
    assert set(fields) == {
        *("time", "level", "logger", "message", "request_id", "method", "path", "status", "ms", "images"),
    }
