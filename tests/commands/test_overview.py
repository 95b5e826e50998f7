"""The command that lists the others."""

import tomllib
from pathlib import Path

import pytest
from calling import call, exit_code

from weldnet import __version__


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_it_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("overview", *arguments) == 0
    shown = capsys.readouterr().out
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    listed = [line.split()[1] for line in shown.splitlines() if line.startswith("  weldnet ")]
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
