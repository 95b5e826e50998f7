"""The command that lists the others."""

import json
import os
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from calling import call, exit_code
from omegaconf import OmegaConf
from stopped import compose

from weldnet import __version__
from weldnet.errors import InputError
from weldnet.inference.checkpoint import find_checkpoint
from weldnet.inference.finished_runs import find_best


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_it_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("overview", *arguments) == 0
    shown = capsys.readouterr().out
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    listed = [line.split()[1] for line in shown.splitlines() if line.startswith("  weldnet ")]
    # What has no script of its own.
    listed.remove("runs")
    assert sorted(f"weldnet-{name}" for name in listed) == sorted(set(scripts) - {"weldnet"})
    assert max(map(len, shown.splitlines())) <= 120


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    call("overview", "--version")
    assert capsys.readouterr().out == f"weldnet {__version__}\n"


def test_it_runs_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("overview", "predict", "ckpt_path=nowhere", "source=nowhere") == 2
    assert capsys.readouterr().err.startswith("weldnet-predict: ")


def test_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("overview", "trian") == 2
    assert "no such command: trian; allowed are audit, train" in (message := capsys.readouterr().err)
    assert "did you mean 'train'?" in message


def write_run(folder: Path, *, epochs: int, figure: float, digest: str = "a", kind: str = "unseen") -> None:
    """What `weldnet runs` reads of a run."""
    folder.mkdir(parents=True)
    config = compose("train", folder, f"trainer.max_epochs={epochs}")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
    facts = {"split_digest": digest, "validation_groups": kind}
    figures = {"balanced_accuracy": 0.9, "balanced_accuracy_by_group": figure}
    (folder / "metrics.json").write_text(
        json.dumps({"split": "test", **facts, **figures, "validation": facts | figures})
    )


def test_the_runs_and_the_best_of_those_that_compare(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = here / "runs" / "train"
    settings: dict[str, dict[str, Any]] = {
        "old": {"epochs": 5, "figure": 0.6},
        "several/seed_1": {"epochs": 6, "figure": 0.7},
        "others": {"epochs": 7, "figure": 0.99, "digest": "b"},
        "known": {"epochs": 8, "figure": 0.98, "kind": "known"},
        "new": {"epochs": 9, "figure": 0.5},
    }
    for number, name in enumerate(settings):
        write_run(runs / name, **settings[name])
        os.utime(runs / name / "metrics.json", (number, number))
    (runs / "damaged").mkdir()
    (runs / "damaged" / "metrics.json").write_text("{")
    best = find_best(runs, runs / "new")
    assert best is not None
    assert best.folder == runs / "several" / "seed_1"
    for folder in (best.folder, runs / "new"):
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "best.ckpt").touch()
    assert find_checkpoint("best") == best.folder / "checkpoints" / "best.ckpt"
    # One that is not finished yet, and has no checkpoint: no older one is taken in its place.
    (runs / "unfinished").mkdir()
    (runs / "unfinished" / "config.yaml").touch()
    assert find_best(runs, runs / "unfinished") is None
    with pytest.raises(InputError, match="unfinished holds no checkpoints"):
        find_checkpoint("best")
    shutil.rmtree(runs / "unfinished")
    call("overview", "runs")
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if line.startswith("runs/train/")]
    assert [line.split()[0].removeprefix("runs/train/") for line in lines] == [
        *("new", "known", "others", "several/seed_1", "old")
    ]
    assert ["*" in line for line in lines] == [False, False, False, True, False]
    assert ["other images or splits" in line for line in lines] == [False, True, True, False, False]
    assert lines[0].split()[1:5] == ["0.9000", "0.5000", "0.9000", "0.5000"]
    assert lines[0].split()[5:] == ["trainer.max_epochs=9"]


def test_no_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("overview", "runs", "nowhere") == 2
    assert f"no finished run below {here / 'nowhere'}" in capsys.readouterr().err
