"""The command that lists the others."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from calling import call, exit_code
from omegaconf import DictConfig, OmegaConf
from stopped import compose

from weldnet import __version__
from weldnet.config.hydra_app import command
from weldnet.config.run_table import print_sweep
from weldnet.config.runs import label_overrides, name_folder
from weldnet.config.schema import TrainConfig
from weldnet.data.sources.found import explain_folder
from weldnet.errors import InputError
from weldnet.inference.finished_runs import find_best, find_checkpoint


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


def test_the_list_needs_no_framework() -> None:
    code = "import sys; from weldnet.commands.overview import main; main(); sys.exit('hydra' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, "--help"], check=True, stdout=subprocess.DEVNULL)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    call("overview", "--version")
    assert capsys.readouterr().out == f"weldnet {__version__}\n"


def test_it_runs_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("overview", "predict", "ckpt_path=nowhere", "source=nowhere") == 2
    assert capsys.readouterr().err.startswith("weldnet-predict: ")


def test_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("overview", "trian") == 2
    assert "no such command: trian; allowed are audit, crossval" in (message := capsys.readouterr().err)
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
        "others[bold]": {"epochs": 7, "figure": 0.99, "digest": "b"},
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
    write_run(trial := here / "runs" / "sweep" / "s" / "trial_0000", epochs=10, figure=1)
    os.utime(trial / "metrics.json", (0, 0))
    call("overview", "runs")
    # A shell needs quotes around brackets.
    shown = capsys.readouterr().out.replace("'", "")
    lines = [line for line in shown.splitlines() if line.startswith("runs/")]
    assert [line.split()[0].removeprefix("runs/train/") for line in lines] == [
        *("new", "known", "others[bold]", "several/seed_1", "old", "runs/sweep/s/trial_0000")
    ]
    assert ["*" in line for line in lines] == [False, False, False, True, False, False], "best is of runs/train"
    assert ["other images or splits" in line for line in lines] == [False, True, True, False, False, False]
    assert lines[0].split()[1:5] == ["0.9000", "0.5000", "0.9000", "0.5000"]
    assert lines[0].split()[5:] == ["trainer.max_epochs=9"]


def test_no_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("overview", "runs", "nowhere") == 2
    assert f"no finished run below {here / 'nowhere'}" in capsys.readouterr().err


def test_a_sweep_names_its_runs_and_ends_with_their_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def train(cfg: DictConfig) -> Path:
        folder = name_folder("train", cfg.output_dir)
        write_run(folder, epochs=cfg.trainer.max_epochs, figure=0.5 if cfg.trainer.max_epochs == 3 else 0.8)
        return folder

    main = command("train", train, TrainConfig, end_sweep=print_sweep)
    monkeypatch.setattr(sys, "argv", ["weldnet-train", "-m", "trainer.max_epochs=3,4", "data.augmentation=light"])
    main()
    named = {run.name.partition("_trainer")[2] for run in Path("runs", "train").iterdir()}
    assert named == {".max_epochs=3", ".max_epochs=4"}, "what all have in common names none"
    assert explain_folder("runs") == "below runs (what weldnet has written)"
    shown = capsys.readouterr().out
    assert re.search(r"max_epochs=4 \*[^\n]*trainer.max_epochs=4\n.*max_epochs=3 ", shown, re.DOTALL)
    monkeypatch.setattr(sys, "argv", ["weldnet-train", "trainer.max_epochs=3"])
    main()
    assert capsys.readouterr().out == ""
    assert len([run for run in Path("runs", "train").iterdir() if "=" not in run.name]) == 1


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ("", ""),
        ("data.root=/a b/$c,seed=1", "_data.root=_a_b_c,seed=1"),
        ("x=" + 200 * "y", "_x=" + 97 * "y"),
        ("x=" + 200 * "溶", "_x=" + 32 * "溶"),
    ],
)
def test_overrides_at_the_end_of_a_name(overrides: str, label: str) -> None:
    assert label_overrides(overrides) == label
