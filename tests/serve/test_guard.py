"""Who may ask, and what is counted and logged of each request."""

from importlib.metadata import version
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import FACTS, MULTIPART, TINY, Client, opened, paint

from weldnet.inference.predictor import Predictor

KEY = "0123456789abcdef"


def test_the_key_opens_everything_but_the_page(predictor: Predictor, file: Path) -> None:
    with opened(predictor, file, api_key=KEY) as client:
        for path in ("/", "/page.css", "/page.js", "/docs", "/swagger-ui.css", "/health", "/ready", "/openapi.json"):
            assert client.ask(path).status_code == 200
        routes = client.ask("/openapi.json").json()["paths"]
        asking = {path for path, ways in routes.items() if any("security" in way for way in ways.values())}
        assert asking == {"/predict", "/reviews", "/model", "/metrics"}
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
    ],
)
def test_a_server_of_this_machine_has_no_other_name(predictor: Predictor, file: Path, host: str, passes: bool) -> None:
    with opened(predictor, file, hosts={"localhost", "127.0.0.1"}) as client:
        answer = client.ask("/health", headers={"host": host})
    assert answer.status_code == (200 if passes else 400)


def test_a_health_check_needs_no_host(predictor: Predictor, file: Path) -> None:
    with opened(predictor, file, hosts={"localhost"}) as client:
        for path, method in (("/health", "GET"), ("/ready", "GET"), ("/ready", "HEAD"), ("/", "OPTIONS")):
            assert client.ask(path, method, headers={"host": ""}).status_code == 200
            assert client.ask(path, method, headers={"host": "evil.example"}).status_code == 400
        assert client.ask("/model", headers={"host": ""}).status_code == 400


def test_metrics_count(client: Client) -> None:
    client.send(("a.png", paint(250)), ("b.png", paint(250)), ("c.png", b"x"))
    client.ask("/somewhere/else")
    text = client.ask("/metrics").text
    for line in (
        'weldnet_requests_total{route="/predict",status="200"} 1.0',
        'weldnet_requests_total{route="other",status="404"} 1.0',
        'weldnet_verdicts_total{predicted="good",verdict="accept"} 2.0',
        'weldnet_images_total{outcome="unreadable"} 1.0',
        'weldnet_request_seconds_count{route="/predict",status="200"} 1.0',
        f'weldnet_model_info{{digest="{FACTS.digest}",run="",version="{version("weldnet")}"}} 1.0',
        "weldnet_uploads 0.0",
        "process_resident_memory_bytes ",
        "weldnet_queue_length 0.0",
    ):
        assert line in text


def test_every_series_begins_with_0(client: Client) -> None:
    before = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(client.ask("/metrics").text)
        for sample in family.samples
    }
    for verdict in ("accept", "reject", "refer"):
        for name in FACTS.classes:
            assert before["weldnet_verdicts_total", name, verdict] == 0
    for outcome in ("judged", "unreadable"):
        assert before["weldnet_images_total", outcome] == 0
    assert before["weldnet_unlike_training_total",] == 0
    client.send(("a.png", paint(0)))
    assert "weldnet_unlike_training_total 1.0" in client.ask("/metrics").text


def test_a_page_of_its_own_may_send(client: Client) -> None:
    assert client.send(("a.png", paint(250)), headers={"origin": "http://testserver"}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_way_is_refused_in_words(client: Client, method: str) -> None:
    for path, status in (("/nothing", 404), ("/predict/", 404), ("/predict", 405)):
        answer = client.ask(path, method)
        assert answer.status_code == status
        assert "/docs lists the routes" in answer.json()["error"]
