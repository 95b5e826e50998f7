"""The served model in process: answers, limits, who may ask, records, metrics."""

import asyncio
import errno
import json
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from damaging import break_sum
from serving import BOUNDARY, CONTENT_TYPE, FACTS, Brightness, Client, claim_pixels, make_body, paint

from weldnet.errors import InputError
from weldnet.inference.predictor import Predictor
from weldnet.serve.app import create_app
from weldnet.serve.limits import Limits
from weldnet.serve.records import DecisionRecords
from weldnet.serve.uploads import read_form

KEY = "0123456789abcdef"
LIMITS = Limits(max_body_mb=0.1, max_images=3, max_megapixels=50.0)
HOSTILE = ("../../etc/passwd", "<img src=x onerror=alert(1)>.png", "a%0Ab\u202egnp", "x" * 5000, "")


@pytest.fixture
def predictor() -> Iterator[Predictor]:
    with Predictor(Brightness(), 2) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "decisions.jsonl"


@contextmanager
def opened(
    predictor: Predictor, file: Path, api_key: str | None = None, hosts: Collection[str] | None = None
) -> Iterator[Client]:
    with DecisionRecords(file, FACTS) as records:
        app = create_app(predictor, records, LIMITS, api_key=api_key, hosts=hosts)
        with Client(app) as client:
            yield client


@pytest.fixture
def client(predictor: Predictor, file: Path) -> Iterator[Client]:
    with opened(predictor, file) as made:
        yield made


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_verdicts_are_the_predictors(client: Client, predictor: Predictor, file: Path) -> None:
    names, contents = ["a.png", "b.png", "c.png"], [paint(250), paint(20), paint(0)]
    answer = client.send(*zip(names, contents, strict=True))
    assert answer.status_code == 200
    response = answer.json()
    assert (response["model_digest"], response["error"]) == (FACTS.digest, None)
    expected = predictor.predict_contents(names, contents)
    assert [one["verdict"] for one in response["results"]] == ["accept", "reject", "refer"]
    assert [one["unlike_training"] for one in response["results"]] == [False, False, True]
    for result, prediction, record in zip(response["results"], expected, read(file), strict=True):
        assert result | {"time": ""} == prediction.model_dump(by_alias=True) | {"time": ""}
        assert {key: record[key] for key in result} == result
        assert record["request_id"] == response["request_id"] == answer.headers["x-request-id"]
        assert (record["accept_above"], record["reject_below"], record["runtime"]) == (0.75, 0.25, "brightness")
        assert record["model_digest"] == FACTS.digest
        assert record["time"].endswith("+00:00")


def test_a_damaged_file_is_referred(client: Client, file: Path) -> None:
    whole = paint(250)
    answer = client.send(("a.png", whole), ("b.png", break_sum(whole, b"IDAT")))
    verdicts = [("accept", False), ("refer", True)]
    assert [(one["verdict"], one["damaged"]) for one in answer.json()["results"]] == verdicts
    assert [(record["verdict"], record["damaged"]) for record in read(file)] == verdicts


def test_a_file_that_cannot_be_read_stops_no_other(client: Client, file: Path) -> None:
    answer = client.send(("a.png", b"no image"), ("b.png", paint(250)), ("bomb.png", claim_pixels(10_000, 10_000)))
    assert answer.status_code == 200
    first, second, third = answer.json()["results"]
    assert "not a JPEG" in first["error"]
    assert (first["verdict"], first["probabilities"]) == (None, {})
    assert (second["verdict"], second["error"]) == ("accept", None)
    assert "10000 x 10000 pixels; allowed are 1 to 50,000,000" in third["error"]
    assert [record["error"] is None for record in read(file)] == [False, True, False]
    answer = client.send(("a.png", b""))
    assert answer.status_code == 422
    assert "none of the files" in answer.json()["error"]
    assert answer.json()["results"][0]["error"] == "the file is empty"


def test_hostile_names_stay_names(client: Client, file: Path) -> None:
    for name in HOSTILE:
        answer = client.send((name, paint(250)))
        if len(name) > 4000:
            assert answer.status_code == 400
            assert answer.json()["error"].startswith("the multipart body cannot be read: ")
            continue
        assert answer.status_code == 200
        assert answer.json()["results"][0]["file"] == name[:255]
    assert [record["file"] for record in read(file)] == [name for name in HOSTILE if len(name) <= 4000]
    answer = client.send(("y" * 1000, paint(250)))
    assert answer.json()["results"][0]["file"] == "y" * 255


def test_a_name_that_is_not_utf_8_keeps_its_bytes(client: Client, file: Path) -> None:
    body = make_body(("weiss.png", paint(250))).replace(b"weiss", b"wei\xdf")
    answer = client.ask("/predict", "POST", body, MULTIPART)
    assert answer.json()["results"][0]["file"] == read(file)[0]["file"] == "wei\\xdf.png"


MULTIPART = {"content-type": CONTENT_TYPE}
TINY = make_body(("a.png", paint(1)))


@pytest.mark.parametrize(
    ("headers", "content", "status", "words"),
    [
        ({"content-type": "application/json"}, b"{}", 415, "application/json; allowed is multipart/form-data"),
        ({}, b"x", 415, "nothing; allowed is multipart"),
        ({"content-type": "multipart/form-data"}, TINY, 400, "No boundary given"),
        *(
            ({"content-type": f"{CONTENT_TYPE}; charset={charset}"}, TINY, 400, "the only charset is utf-8")
            for charset in ("utf-7", '"UTF-16"', "unicode_escape")
        ),
        (MULTIPART | {"transfer-encoding": "chunked", "content-length": str(len(TINY))}, TINY, 411, "chunked"),
        (MULTIPART, TINY.replace(b"filename=", b"filename*="), 400, "a part without filename="),
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
        (MULTIPART, f"--{BOUNDARY}--\r\n".encode(), 400, "no field"),
        (MULTIPART, make_body(("a.png", paint(1)), field="file"), 400, "the field file; allowed is the field files"),
        (MULTIPART, TINY.replace(b'; filename="a.png"', b""), 400, "holds a part without filename=; allowed"),
        (MULTIPART, make_body(*[("a", b"")] * 4), 413, "more files than the 3"),
        (MULTIPART, make_body(*[("a", b"")] * 10_000)[:90_000], 413, "more files than the 3"),
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
    assert not read(file)
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

    files = asyncio.run(read_form(CONTENT_TYPE, cut(), 6))
    assert [tuple(file) for file in files] == [('a;"b', each) for each in contents]


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


@pytest.mark.parametrize("path", ["/", "/page.js", "/health", "/ready"])
def test_a_head_is_answered(client: Client, path: str) -> None:
    assert client.ask(path, "HEAD").status_code == 200


def test_a_page_of_its_own_may_send(client: Client) -> None:
    assert client.send(("a.png", paint(250)), headers={"origin": "http://testserver"}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_way_is_refused_in_words(client: Client, method: str) -> None:
    for path, status in (("/nothing", 404), ("/predict/", 404), ("/predict", 405)):
        answer = client.ask(path, method)
        assert answer.status_code == status
        assert "/docs lists the routes" in answer.json()["error"]


def test_what_the_server_says_of_itself(client: Client) -> None:
    assert client.ask("/health").json() == {"status": "alive"}
    assert client.ask("/ready").json() == {"status": "ready"}
    model = client.ask("/model").json()
    assert model["explains"] is False
    assert model["limits"]["max_images"] == 3
    assert model == FACTS.model_dump(mode="json") | {key: model[key] for key in ("limits", "explains")}
    described = client.ask("/openapi.json").json()
    assert "securitySchemes" not in described["components"]
    assert set(described["paths"]) == {"/predict", "/explain", "/health", "/ready", "/model", "/metrics"}
    assert described["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    client.service.is_stopping = True
    assert client.ask("/ready").status_code == 503
    assert client.ask("/health").status_code == 200


def test_an_export_explains_nothing(client: Client) -> None:
    answer = client.ask("/explain", "POST", TINY, MULTIPART)
    assert answer.status_code == 501
    assert "serve the checkpoint" in answer.json()["error"]


def test_the_page_is_strict_and_loads_nothing_from_elsewhere(client: Client) -> None:
    for path in ("/", "/page.css", "/page.js", "/page_camera.js", "/page_requests.js", "/docs", "/docs.js"):
        answer = client.ask(path)
        assert answer.status_code == 200
        assert not re.search(r"(https?:)?//[a-z]", answer.text.replace("http://www.w3.org/2000/svg", ""))
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\son\w+=| style=", answer.text)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_key_opens_everything_but_the_page(predictor: Predictor, file: Path) -> None:
    with opened(predictor, file, api_key=KEY) as client:
        for path in ("/", "/page.css", "/page.js", "/docs", "/swagger-ui.css", "/health", "/ready", "/openapi.json"):
            assert client.ask(path).status_code == 200
        routes = client.ask("/openapi.json").json()["paths"]
        asking = {path for path, ways in routes.items() if any("security" in way for way in ways.values())}
        assert asking == {"/predict", "/explain", "/model", "/metrics"}
        for path in ("/model", "/metrics", "/nothing"):
            assert client.ask(path).status_code == 401
        for wrong in ({}, {"x-api-key": ""}, {"x-api-key": KEY[:-1]}, {"x-api-key": "\xe9"}):
            answer = client.ask("/predict", "POST", TINY, MULTIPART | wrong)
            assert answer.status_code == 401
            assert "X-API-Key is missing or wrong" in answer.json()["error"]
        assert client.send(("a.png", paint(250)), headers={"x-api-key": KEY}).status_code == 200


@pytest.mark.parametrize(
    ("host", "passes"),
    [
        ("localhost:8000", True),
        ("127.0.0.1", True),
        ("LOCALHOST", True),
        ("10.1.2.3:8000", True),
        ("[fe80::1]:80", True),
        ("evil.example", False),
        ("10.1.2.3.evil.example", False),
        ("[", False),
        ("", False),
    ],
)
def test_a_server_of_this_machine_has_no_other_name(predictor: Predictor, file: Path, host: str, passes: bool) -> None:
    with opened(predictor, file, hosts={"localhost", "127.0.0.1"}) as client:
        answer = client.ask("/health", headers={"host": host})
    assert answer.status_code == (200 if passes else 400)


def test_records_are_appended_to_and_a_cut_line_is_ended(predictor: Predictor, file: Path) -> None:
    before = json.dumps(dict.fromkeys(("time", "sha256", "model_digest", "verdict"), "before"))
    file.write_text(before + '\n{"cut')
    for name in ("a", "b"):
        with opened(predictor, file) as client:
            assert client.send((name, paint(1))).status_code == 200
    lines = file.read_text().splitlines()
    assert lines[:2] == [before, '{"cut']
    assert [json.loads(line)["file"] for line in lines[2:]] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        (b"", True),
        (b'{"ti', True),
        (b'{"ti\n', True),
        (b'{"time": 1, "sha256": 2, "verdi', True),
        (b'{"time": 1, "sha256": "", "model_digest": "", "verdict": "accept"}\n', True),
        (b'{"time":1}', False),
        (b'{"time": "2026", "level": "info", "message": "request"}\n', False),
        (b'my notes: a line begins {"time" always', False),
        (b"[" * 9999, False),
        (b"\n# notes\n", False),
        (b'{\n "a": 1}', False),
        (b'{"ti\n{"time": 1, "sha256', True),
        (b"\xff\xd8\xff\xe0 a photograph", False),
        (b"{}", False),
    ],
)
def test_decisions_are_not_added_to_something_else(file: Path, content: bytes, taken: bool) -> None:
    file.write_bytes(content)
    with nullcontext() if taken else pytest.raises(InputError, match="something other than decisions"):
        DecisionRecords(file, FACTS).close()
    assert file.read_bytes() == content


def test_two_servers_never_write_one_file(tmp_path: Path) -> None:
    held = (DecisionRecords(tmp_path / "d", FACTS), DecisionRecords(tmp_path / "e", FACTS))
    with pytest.raises(InputError, match="a different server records its decisions"):
        DecisionRecords(tmp_path / "d", FACTS)
    for records in held:
        records.close()
    DecisionRecords(tmp_path / "d", FACTS).close()


def write_to_a_full_disk(descriptor: int, content: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def write_slowly(descriptor: int, content: bytes) -> int:
    time.sleep(0.5)
    return len(content)


@pytest.mark.parametrize(
    ("write", "why"),
    [(write_to_a_full_disk, "No space left on device"), (write_slowly, "the disk does not answer")],
)
def test_no_verdict_without_a_record(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[int, bytes], int], why: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for file in (tmp_path, tmp_path / "no" / "file", tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(InputError, match=r"cannot be recorded .*serve\.records"):
            DecisionRecords(file, FACTS)
    limits = Limits(request_timeout_s=0.2)
    with DecisionRecords(tmp_path / "d", FACTS) as records, Client(create_app(predictor, records, limits)) as client:
        monkeypatch.setattr("weldnet.serve.records.os", SimpleNamespace(write=write, close=os.close))
        answer = client.send(("a.png", paint(250)))
    assert answer.status_code == 503
    assert answer.json() == {"error": f"the decision cannot be recorded ({why}), and no verdict is given without"}


def test_metrics_count(client: Client) -> None:
    client.send(("a.png", paint(250)), ("b.png", paint(250)), ("c.png", b"x"))
    client.ask("/somewhere/else")
    text = client.ask("/metrics").text
    for line in (
        'weldnet_requests_total{route="/predict",status="200"} 1.0',
        'weldnet_requests_total{route="other",status="404"} 1.0',
        'weldnet_verdicts_total{predicted="good",verdict="accept"} 2.0',
        'weldnet_images_total{outcome="unreadable"} 1.0',
        'weldnet_request_seconds_count{route="/predict"} 1.0',
        "weldnet_queue_length 0.0",
    ):
        assert line in text


def test_a_failure_of_ours_is_explained(predictor: Predictor, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(predictor, file) as client:
        monkeypatch.setattr(predictor.engine, "score", lambda images: 1 / 0)
        answer = client.send(("a.png", paint(250)))
    assert answer.status_code == 500
    assert "see its log" in answer.json()["error"]


@pytest.mark.parametrize("values", [{"max_images": 0}, {"max_body_mb": float("inf")}, {"request_timeout_s": -1.0}])
def test_limits_are_above_0(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"serve.{next(iter(values))}=.*above 0"):
        Limits(**values)
