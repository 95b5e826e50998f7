"""A client that openapi-python-client makes of the server's own description sends photographs and reviews."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from fetching import fetch
from serving import Brightness, listening, paint, read_lines

from weldnet.serve.limits import Limits

pytestmark = pytest.mark.slow

GENERATOR = "openapi-python-client==0.29.1"

USE = """
import io, json, sys
from generated import Client
from generated.api.default import health, model, predict, ready, review
from generated.models import PredictBody, ReviewReview
from generated.types import File

address, bright, broken = sys.argv[1:]
client = Client(base_url=address, raise_on_unexpected_status=True)

def send(name):
    return predict.sync(client=client, body=PredictBody([File(io.BytesIO(open(name, "rb").read()), name)], "4711"))

answer, served = send(bright), model.sync(client=client)
given = ReviewReview(answer.request_id, answer.results[0].file, False, "Kim", label="pore")
print(json.dumps({
    "verdict": answer.results[0].verdict,
    "probability": answer.results[0].probabilities["good"],
    "reference": answer.reference,
    "review": review.sync(client=client, body=given).status,
    "states": [health.sync(client=client).status, ready.sync(client=client).status],
    "model": [served.applied_temperature, served.point.accept_above, served.geometry.height],
    "refused": send(broken).error,
}))
"""


def test_a_generated_client_works(tmp_path: Path, file: Path) -> None:
    alone = fetch(tmp_path / "packages", GENERATOR)
    (tmp_path / "bright.png").write_bytes(paint(240))
    (tmp_path / "broken.png").write_bytes(b"no image")
    with listening(file, Brightness(), Limits()) as port:
        address = f"http://127.0.0.1:{port}"
        with urlopen(f"{address}/openapi.json") as answer:
            (tmp_path / "openapi.json").write_bytes(answer.read())
        options = ["--path", "openapi.json", "--output-path", "generated", "--meta", "none"]
        generate = [sys.executable, "-m", "openapi_python_client", "generate", *options]
        subprocess.run(generate, cwd=tmp_path, env=alone, check=True, capture_output=True)
        use = [sys.executable, "-c", USE, address, "bright.png", "broken.png"]
        used = subprocess.run(use, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert used.returncode == 0, used.stderr
    assert json.loads(used.stdout) == {
        "verdict": "accept",
        "probability": pytest.approx(240 / 255, abs=1e-6),
        "reference": "4711",
        "review": "recorded",
        "states": ["alive", "ready"],
        "model": [1.0, 0.75, 8],
        "refused": "none of the files could be read; each has its error",
    }
    assert [(line["kind"], line["reference"]) for line in read_lines(file)] == [
        *(("decision", "4711"), ("review", None), ("decision", "4711"))
    ]
