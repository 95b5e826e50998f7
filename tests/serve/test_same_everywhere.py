"""The same photographs through a checkpoint, its exports and HTTP: the same classes and verdicts."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from calling import call
from drawing import draw_noise, save_image
from PIL import Image
from trained import CLASSES, train_small

from weldnet.inference.prediction_files import read_rows
from weldnet.inference.predictor import Predictor, load_engine
from weldnet.serve.app import create_app
from weldnet.serve.limits import Limits
from weldnet.serve.records import DecisionRecords

pytestmark = pytest.mark.slow

GATE = 1e-3
EXPORTS = ("onnx", "openvino")
FRAMED = (
    *("data.normalize=per_image", "data.resize=letterbox", "data.image_size.height=64", "data.image_size.width=32"),
    *("model=timm", "model.backbone=test_resnet", "model.zero_init_residual=false"),
)
"""A smaller network, whose photographs are standardised and get a frame."""

Predictions = list[tuple[str, str, str, bool, list[float]]]


@pytest.fixture(scope="module", params=["imagenet", "per_image"])
def home(
    request: pytest.FixtureRequest,
    small: Path,
    exported: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """`run` and its exports `onnx` and `openvino`; `photos`: welds, also in less light, and pictures that are none.

    Grey levels as they are: `small`. The other run is exported by the command.
    """
    home = tmp_path_factory.mktemp("home")
    if request.param == "imagenet":
        for name, made in {"run": small / "run", **{kind: exported(kind) for kind in EXPORTS}}.items():
            (home / name).symlink_to(made)
        welds = small / "welds"
    else:
        train_small(home, *FRAMED)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(home)
            patch.setenv("WELDNET_CACHE", str(home / "cache"))
            for kind in EXPORTS:
                call("export", "ckpt_path=run", f"format={kind}", f"output_dir={kind}")
        welds = home / "welds"
    for number, file in enumerate(sorted(welds.rglob("*.jpg"))[::12]):
        (home / "photos").mkdir(exist_ok=True)
        (home / "photos" / f"{number:02d}.jpg").write_bytes(file.read_bytes())
        save_image(home / "photos" / f"{number:02d}_dark.png", np.asarray(Image.open(file)) // 2)
    for level in (0, 255):
        # Unlike anything in training, however it went.
        save_image(home / "photos" / f"even_{level}.png", np.full((50, 30, 3), level, np.uint8))
    for number in range(3):
        save_image(home / "photos" / f"noise_{number}.png", draw_noise(50, 30, seed=number))
    return home


def predict(home: Path, ckpt_path: str) -> Predictions:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        call("predict", f"ckpt_path={ckpt_path}", "source=photos", f"output_dir=predicted_{ckpt_path}")
    rows = read_rows(home / f"predicted_{ckpt_path}" / "predictions.jsonl")
    return [to_said(row | {"file": row["path"]}, [row[f"p_{name}"] for name in CLASSES]) for row in rows]


def ask(home: Path, ckpt_path: str) -> Predictions:
    engine = load_engine(str(home / ckpt_path))
    photos = sorted((home / "photos").iterdir())
    with Predictor(engine) as predictor, DecisionRecords(home / f"{ckpt_path}.jsonl", engine.facts) as records:
        transport = httpx.ASGITransport(create_app(predictor, records, Limits()))

        async def post() -> httpx.Response:
            files = [("files", (photo.name, photo.read_bytes())) for photo in photos]
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.post("/predict", files=files)

        answer = asyncio.run(post())
    assert answer.status_code == 200
    return [to_said(row, [row["probabilities"][name] for name in CLASSES]) for row in answer.json()["results"]]


def to_said(row: dict[str, Any], probabilities: list[float]) -> tuple[str, str, str, bool, list[float]]:
    return Path(row["file"]).name, row["predicted"], row["verdict"], row["unlike_training"], probabilities


@pytest.fixture(scope="module")
def expected(home: Path) -> Predictions:
    """What `weldnet-predict` gives with the checkpoint: all verdicts occur."""
    predictions = predict(home, "run")
    assert {each[2] for each in predictions} == {"accept", "reject", "refer"}
    return predictions


@pytest.mark.parametrize(
    ("way", "ckpt_path"),
    [(predict, "onnx"), (predict, "openvino"), (ask, "run"), (ask, "onnx"), (ask, "openvino")],
    ids=["files-onnx", "files-openvino", "http-run", "http-onnx", "http-openvino"],
)
def test_all_ways_give_the_same_predictions(home: Path, expected: Predictions, way: Any, ckpt_path: str) -> None:
    predictions = way(home, ckpt_path)
    assert [each[:4] for each in predictions] == [each[:4] for each in expected]
    assert np.abs(np.array([each[4] for each in predictions]) - [each[4] for each in expected]).max() < GATE


def test_only_standardised_photographs_do_not_depend_on_their_light(home: Path, expected: Predictions) -> None:
    normalize = load_engine(str(home / "run")).facts.geometry.normalize
    assert {json.loads((home / kind / "model.json").read_text())["geometry"]["normalize"] for kind in EXPORTS} == {
        normalize
    }
    good = {each[0].partition(".")[0]: each[4][0] for each in expected}
    changes = [abs(good[f"{name}_dark"] - good[name]) for name in good if f"{name}_dark" in good]
    assert len(changes) == 20
    assert (max(changes) < 0.1) == (normalize == "per_image")
