"""One run of weldnet-train with all that it draws, and weldnet-test of what it leaves."""

import json
from pathlib import Path

import polars as pl
import pytest
from calling import call, refuse
from test_train import SMALL, only_run, read


@pytest.mark.slow
def test_a_run_leaves_what_it_promises(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call("train", *SMALL)
    run = only_run(here)
    printed = capsys.readouterr().out
    for name in ("config.yaml", "split.csv", "metrics.json", "predictions.csv", "confusion_matrix.png", "train.log"):
        assert (run / name).is_file(), name
    assert sorted(file.name for file in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert list(run.glob("events.out.tfevents.*"))
    assert not list(run.rglob(".*")), "no temporary file is left"
    metrics = read(run)
    assert metrics["split"] == "test"
    assert metrics["validation"]["split"] == "val"
    assert metrics["validation_groups"] == "unseen"
    predictions = pl.read_csv(run / "predictions.csv")
    assert predictions.columns[:4] == ["path", "label", "group", "predicted"]
    agree = (predictions["label"] == predictions["predicted"]).mean()
    assert agree == pytest.approx(metrics["accuracy"])
    words = {line[:12].strip(): line[12:] for line in printed.splitlines()[-3:]}
    assert words["the page:"] == f"{run.relative_to(here)}/report.html"
    assert words["new photos:"].endswith(f"weldnet-predict DIR ckpt_path={run.relative_to(here)}")
    advice = json.loads((run / "report.json").read_text())["headline"]["reasons"][0]["action"]
    assert words["to improve:"] == advice
    assert "epoch 2/2" in printed
    split = pl.read_csv(run / "split.csv")
    groups = split.group_by("group").agg(pl.col("split").n_unique())
    assert groups["split"].max() == 1

    call("test", "ckpt_path=best")
    again = read(only_run(here, "test"))
    assert {k: v for k, v in metrics.items() if k != "validation"} == again

    call("test", f"ckpt_path={run}", "split=val", "output_dir=val")
    assert read(here / "val") == metrics["validation"]

    call(
        "test",
        f"ckpt_path={run}",
        "data=manifest",
        f"data.manifest={run}/split.csv",
        "output_dir=own list",
    )
    assert read(here / "own list") == again

    error = refuse(capsys, "test", f"ckpt_path={run}", "output_dir=val")
    assert "not empty" in error
    for key in ("data.image_size.height=32", "data.normalize=per_image"):
        assert "is the checkpoint's, and stays what it is" in refuse(capsys, "test", f"ckpt_path={run}", key)
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    call("train", f"ckpt_path={run}")
    printed = capsys.readouterr().out
    assert "is complete" in printed
    assert "trainer.max_epochs=4" in printed
    assert before == {file: file.stat().st_mtime_ns for file in run.rglob("*")}, "nothing was written"
