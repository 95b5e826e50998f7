"""weldnet-explain through its real main."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling import exit_code
from drawing import write_welds
from PIL import Image
from untrained import save_untrained

from weldnet.evaluation.decision import choose_operating_point
from weldnet.inference.predictor import Predictor, load_engine
from weldnet.report import explained as explaining
from weldnet.report.explained import CAPTION


@pytest.fixture
def here(here: Path) -> Path:
    """The current directory, with 4 welds and a.ckpt."""
    write_welds(here / "welds", seams=range(2), shots=1)
    save_untrained(here / "a.ckpt")
    return here


def test_a_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("explain", "device=cpu", "ckpt_path=a.ckpt", "source=welds") == 0
    (run,) = (here / "runs" / "explain").iterdir()
    names = [f"{label}/seam{seam}_0.jpg.png" for label in ("crack", "pore") for seam in (0, 1)]
    assert sorted(file.relative_to(run).as_posix() for file in run.rglob("*.png")) == names
    assert str(run.relative_to(here) / "index.html") in capsys.readouterr().out
    facts = json.loads((run / "explained_by.json").read_text())
    assert (facts["method"], facts["layer"], facts["target"]) == ("hires_cam", "layer2", None)


def test_the_page_names_the_actual_class_where_it_is_known(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = here / "run" / "checkpoints" / "a.ckpt"
    checkpoint.parent.mkdir(parents=True)
    (here / "a.ckpt").rename(checkpoint)
    crack, pore = (f"welds/{label}/seam0_0.jpg" for label in ("crack", "pore"))
    (here / "run" / "split.csv").write_text(f"path,label\n{here / crack},crack\n{here / pore},<pore>\n")
    (here / "typed.csv").write_text(f"path,label\n{crack},\n{pore},melted\n")
    cases = {
        "welds/*/seam0_0.jpg": ["crack", "&lt;pore&gt;"],
        "typed.csv": ["crack", "melted"],
        "welds/*/seam1_0.jpg": [],
    }
    for number, (source, known) in enumerate(cases.items()):
        typed = (f"ckpt_path={checkpoint}", f"source={source}", f"output_dir=x{number}")
        assert exit_code("explain", "device=cpu", *typed) == 0
        page = (here / f"x{number}" / "index.html").read_text()
        assert page.count("<figure>") == 2
        assert re.findall("<br>predicted .*<br>actual <b><bdi>(.*)</bdi>", page) == known
    assert not caplog.messages
    (here / "run" / "split.csv").write_text("broken\n")
    assert exit_code("explain", "device=cpu", f"ckpt_path={checkpoint}", "source=typed.csv", "output_dir=x") == 0
    assert "no actual classes from the run: " in caplog.text
    assert "<bdi>melted</bdi>" in (here / "x" / "index.html").read_text()


def test_an_unreadable_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "welds" / "crack" / "a.jpg").touch()
    choices = ("ckpt_path=a.ckpt", "source=welds/crack/*.jpg", "target=pore", "layer=layer4", "method=grad_cam")
    assert exit_code("explain", "device=cpu", *choices, "output_dir=x") == 1
    pictures = ["seam0_0.jpg.png", "seam1_0.jpg.png"]
    assert sorted(file.name for file in (here / "x").iterdir()) == ["explained_by.json", "index.html", *pictures]
    error = capsys.readouterr().err
    assert "1 of 3 files could not be read" in error
    assert "welds/crack/a.jpg: " in error


def test_a_layer_that_has_no_effect(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    choices = ("ckpt_path=a.ckpt", "source=welds/pore/seam0_0.jpg", "layer=layer4")
    assert exit_code("explain", "device=cpu", *choices, "method=integrated_gradients") == 0
    assert "layer has no effect with method=integrated_gradients" in caplog.text
    assert json.loads(next(here.rglob("explained_by.json")).read_text())["layer"] is None


def test_interrupted_it_prints_how_to_resume(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    choices = (f"ckpt_path={here / 'a.ckpt'}", "source=welds", "target=pore")
    with monkeypatch.context() as patch:
        patch.setattr(explaining, "draw_picture", interrupt)
        assert exit_code("explain", "device=cpu", *choices[1:], "ckpt_path=a.ckpt", "output_dir=x") == 130
    go_on = capsys.readouterr().out.split("resume with: ")[1].split()
    assert {*choices, "output_dir=x", "device=cpu"} < set(go_on)
    assert exit_code("explain", "device=cpu", *go_on[1:]) == 0
    assert len(list((here / "x").rglob("*.png"))) == 4
    assert exit_code("explain", "device=cpu", *choices, "output_dir=x", "method=grad_cam") == 2
    assert "name a different folder" in capsys.readouterr().err


EXPORTED = {
    "format": "onnx",
    "classes": ["good"],
    "geometry": {"height": 64, "width": 32},
    "temperature": 1.0,
    "point": asdict(choose_operating_point(np.zeros(0), np.zeros(0, np.bool_), ())),
    "vocabulary": {},
    "files": {},
    "checkpoint": {"name": "best.ckpt", "digest": "12ab"},
    "split_digest": "",
    "versions": {},
    "git_commit": None,
    "date": "",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ckpt_path=a.ckpt"], "source is not given"),
        (["ckpt_path=a.ckpt", "source=nowhere"], "source=nowhere: no such file or folder"),
        (["ckpt_path=b.ckpt", "source=welds"], "no checkpoint at"),
        (["ckpt_path=export", "source=welds"], "the checkpoint that it comes from, best.ckpt with the SHA-256 12ab"),
        (["ckpt_path=a.ckpt", "source=welds", "method=gradcam"], "did you mean 'grad_cam'"),
        (["ckpt_path=a.ckpt", "source=welds", "layer=layer9"], "layer=layer9: allowed are layer1, layer2"),
        (["ckpt_path=a.ckpt", "source=welds", "target=por"], "did you mean 'pore'"),
        (["ckpt_path=a.ckpt", "source=welds", "targt=pore"], "no such key: targt; did you mean 'target'"),
        (["ckpt_path=a.ckpt", "source=welds", "output_dir=export"], "not empty, and nothing is overwritten"),
        (["ckpt_path=a.ckpt", "source=welds", "output_dir=welds/x"], "lies in the source"),
        (["ckpt_path=a.ckpt", "source=welds/**/*.jpg", "output_dir=welds/x"], "lies in the source"),
        (["ckpt_path=a.ckpt", "source=.", "output_dir=x"], "lies in the source"),
    ],
)
def test_bad_use(here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    (here / "export").mkdir()
    (here / "export" / "model.json").write_text(json.dumps(EXPORTED))
    assert exit_code("explain", "device=cpu", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert sorted(file.name for file in here.iterdir()) == ["a.ckpt", "export", "welds"]
    assert [file.name for file in (here / "export").iterdir()] == ["model.json"]


@pytest.mark.slow
def test_a_trained_run_is_explained_as_it_is_predicted(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small)
    typed = ("ckpt_path=run", "source=welds/*/seam0_*.jpg", f"output_dir={tmp_path / 'x'}")
    assert exit_code("explain", "device=cpu", *typed) == 0
    paths = sorted(map(str, (small / "welds").glob("*/seam0_*.jpg")))
    with Predictor(load_engine(str(small / "run"), device="cpu"), 1) as predictor:
        for prediction in predictor.predict_files(paths):
            with Image.open(tmp_path / "x" / f"{Path(prediction.path).relative_to(small / 'welds')}.png") as picture:
                caption = picture.info[CAPTION]
            assert caption.split(",")[0] == prediction.predicted
            assert caption.split(": ")[1].split(" (")[0].split(";")[0] == prediction.verdict
            assert ("unlike" in caption) == prediction.unlike_training
