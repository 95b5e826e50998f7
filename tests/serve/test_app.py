"""The served model in process: answers, records, failures."""

import errno
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from damaging import break_sum
from serving import (
    FACTS,
    MULTIPART,
    TINY,
    Client,
    claim_pixels,
    opened,
    paint,
    read_lines,
)

from weldnet.errors import InputError
from weldnet.inference.predictor import Predictor
from weldnet.serve.app import PAGES, create_app
from weldnet.serve.limits import Limits
from weldnet.serve.records import DecisionRecords


def test_the_verdicts_are_the_predictors(client: Client, predictor: Predictor, file: Path) -> None:
    names, contents = ["a.png", "b.png", "c.png"], [paint(250), paint(20), paint(0)]
    answer = client.send(*zip(names, contents, strict=True))
    assert answer.status_code == 200
    response = answer.json()
    assert (response["model_digest"], response["error"]) == (FACTS.digest, None)
    expected = predictor.predict_contents(names, contents)
    assert [one["verdict"] for one in response["results"]] == ["accept", "reject", "refer"]
    assert [one["unlike_training"] for one in response["results"]] == [False, False, True]
    for result, prediction, record in zip(response["results"], expected, read_lines(file), strict=True):
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
    assert [(record["verdict"], record["damaged"]) for record in read_lines(file)] == verdicts


def test_a_file_that_cannot_be_read_stops_no_other(client: Client, file: Path) -> None:
    answer = client.send(("a.png", b"no image"), ("b.png", paint(250)), ("bomb.png", claim_pixels(10_000, 10_000)))
    assert answer.status_code == 200
    first, second, third = answer.json()["results"]
    assert "not a JPEG" in first["error"]
    assert (first["verdict"], first["probabilities"]) == (None, {})
    assert (second["verdict"], second["error"]) == ("accept", None)
    assert "10000 x 10000 pixels; allowed are 1 to 50,000,000" in third["error"]
    assert [record["error"] is None for record in read_lines(file)] == [False, True, False]
    answer = client.send(("a.png", b""))
    assert answer.status_code == 422
    assert "none of the files" in answer.json()["error"]
    assert answer.json()["results"][0]["error"] == "the file is empty"


@pytest.mark.parametrize("path", ["/", "/page.js", "/health", "/ready"])
def test_a_head_is_answered(client: Client, path: str) -> None:
    assert client.ask(path, "HEAD").status_code == 200


def test_what_the_server_says_of_itself(client: Client) -> None:
    assert client.ask("/health").json() == {"status": "alive"}
    assert client.ask("/ready").json() == {"status": "ready"}
    model = client.ask("/model").json()
    assert model["explains"] is False
    assert model["limits"]["max_images"] == 3
    assert (model["applied_temperature"], "temperature" in model) == (1.0, False)
    assert model["rule"] == FACTS.point.describe()
    assert model == FACTS.model_dump(mode="json", by_alias=True) | {
        key: model[key] for key in ("run", "headline", "rule", "limits", "explains")
    }
    described = client.ask("/openapi.json").json()
    assert "securitySchemes" not in described["components"]
    assert set(described["paths"]) == {"/predict", "/reviews", "/health", "/ready", "/model", "/metrics"}
    assert described["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    answers = [
        answer for path in described["paths"].values() for each in path.values() for answer in each["responses"].items()
    ]
    kinds = {(status < "400", kind) for status, answer in answers for kind in answer["content"]}
    assert kinds == {(True, "application/json"), (True, "text/plain"), (False, "application/json")}
    client.service.is_stopping = True
    assert client.ask("/ready").status_code == 503
    assert client.ask("/health").status_code == 200


def test_an_export_explains_nothing(client: Client) -> None:
    answer = client.ask("/explain", "POST", TINY, MULTIPART)
    assert answer.status_code == 501
    assert "serve the checkpoint" in answer.json()["error"]


def test_the_page_is_strict_and_loads_nothing_from_elsewhere(client: Client) -> None:
    for path in (path for path, (package, *_) in PAGES.items() if package == "weldnet.serve"):
        answer = client.ask(path)
        assert answer.status_code == 200
        assert not re.search(r"(https?:)?//[a-z]", answer.text.replace("http://www.w3.org/2000/svg", ""))
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\son\w+=| style=", answer.text)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


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


REVIEW = {"request_id": "r", "file": "a.png", "agree": False, "label": "pore", "name": "Kim", "remark": "a \u202e pore"}


def test_a_review_is_recorded_beside_the_decisions(client: Client, file: Path) -> None:
    client.send(("a.png", paint(250)), headers={"x-request-id": "r"})
    answer = client.ask("/reviews", "POST", json.dumps(REVIEW))
    assert (answer.status_code, answer.json()) == (200, {"status": "recorded"})
    decision, review = read_lines(file)
    assert (decision["kind"], review["kind"]) == ("decision", "review")
    assert {key: review[key] for key in REVIEW} == REVIEW
    assert (review["model_digest"], review["reference"]) == (FACTS.digest, None)


def test_a_record_may_begin_with_a_review(file: Path, predictor: Predictor) -> None:
    for number in (1, 2):
        with opened(predictor, file) as client:
            assert client.ask("/reviews", "POST", json.dumps(REVIEW)).status_code == 200
        assert len(read_lines(file)) == number


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"label": "crack"}, 422, "label: allowed are good, pore, or null"),
        ({"label": None}, 422, "whoever overrules a verdict names the class"),
        ({"name": ""}, 422, "name: String should match pattern"),
        ({"name": " \u3000\n"}, 422, "name: String should match pattern"),
        ({"request_id": ""}, 422, "request_id: String should match pattern"),
        ({"request_id": "r 1"}, 422, "request_id: String should match pattern"),
        ({"request_id": "r\n"}, 422, "request_id: String should match pattern"),
        ({"request_id": 129 * "r"}, 422, "request_id: String should match pattern"),
        ({"agree": "yes"}, 422, "agree: Input should be a valid boolean"),
        ({"more": 1}, 422, "more: Extra inputs are not permitted"),
        ({"remark": "x" * 20_000}, 413, "a review has at most 16384 bytes"),
    ],
)
def test_a_review_that_says_nothing_is_refused(
    client: Client, file: Path, change: dict[str, Any], status: int, words: str
) -> None:
    answer = client.ask("/reviews", "POST", json.dumps(REVIEW | change))
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert not read_lines(file)
