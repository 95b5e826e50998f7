"""The loop: serve, overrule, export the reviews, audit them, train on them."""

import json
from pathlib import Path

import pytest
from calling import call
from drawing import write_welds
from serving import CONTENT_TYPE, Client, add_text, make_body
from trained import CLASSES, DECISION, QUIET

from weldnet.data.sources.manifest import read_manifest
from weldnet.inference.predictor import Predictor
from weldnet.serve.app import create_app
from weldnet.serve.kept_images import KeptImages
from weldnet.serve.limits import Limits
from weldnet.serve.records import DecisionRecords

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]


def test_what_people_overrule_trains_the_next_model(
    small: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_welds(here / "line", CLASSES, seams=range(12), shots=2)
    (here / "kept").mkdir()
    with (
        Predictor(str(small / "run"), 1) as predictor,
        DecisionRecords(here / "decisions.jsonl", predictor.facts) as records,
        KeptImages(here / "kept", 1e9) as images,
        Client(create_app(predictor, records, Limits(), images=images)) as client,
    ):
        for file in sorted((here / "line").rglob("*.jpg")):
            body = add_text(make_body(("camera.jpg", file.read_bytes())), "reference", file.name.partition("_")[0])
            answer = client.ask("/predict", "POST", body, {"content-type": CONTENT_TYPE}).json()
            label, predicted = file.parent.name, answer["results"][0]["predicted"]
            review = {"request_id": answer["request_id"], "file": "camera.jpg", "name": "Kim", "label": label}
            content = json.dumps(review | {"agree": predicted == label})
            assert client.ask("/reviews", "POST", content).status_code == 200
    call("serve", "export=reviews.csv", "serve.records=decisions.jsonl", "serve.keep_images=kept")
    assert "reviews.csv: 48 photographs (good 24, pore 24) of 12 groups" in capsys.readouterr().out
    table = read_manifest(here / "reviews.csv")
    for path, label, group in table.select("path", "label", "group").iter_rows():
        assert any(Path(path).read_bytes() == file.read_bytes() for file in (here / "line" / label).glob(f"{group}_*"))
    call("audit", "reviews.csv", "output_dir=audit")
    assert json.loads((here / "audit" / "audit.json").read_text())
    settings = [word for word in QUIET if not word.startswith("data") or "image_size" in word or "batch" in word]
    call("train", "reviews.csv", *settings, *DECISION, "trainer.max_epochs=1", "output_dir=run")
    assert (here / "run" / "checkpoints" / "best.ckpt").is_file()
