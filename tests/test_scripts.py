"""scripts/: set-up and benchmark through their real entry points."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark
import benchmark_shared
import benchmark_train
import numpy as np
import polars as pl
import preprocessing
import pytest
from audit_sets import find_hashed, hash_photographs
from benchmark_common import Options, show_moves
from fetching import fetch
from PIL import Image
from training_runs import quiet

from weldnet.console import print_table

SCRIPTS = Path(__file__).parent.parent / "scripts"


def test_setup_names_what_it_allows() -> None:
    done = subprocess.run([SCRIPTS / "setup", "export", "everything"], capture_output=True, text=True)
    assert done.returncode == 2
    extras = tomllib.loads((SCRIPTS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"unknown argument 'everything'; allowed: {', '.join(extras)}\n" in done.stderr


def test_setup_with_nothing_changed_installs_nothing(tmp_path: Path) -> None:
    """In a checkout of its own, whose Python only notes what it is asked for."""
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/setup", "pyproject.toml"):
        shutil.copy(SCRIPTS.parent / name, tmp_path / name)
    python, calls = tmp_path / "python", tmp_path / "calls"
    makes = 'case "$*" in *venv*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; esac'
    python.write_text(f'#!/bin/sh\necho "$@" >>{calls}\n{makes}\n')
    python.chmod(0o755)

    def set_up(extras: str) -> list[str]:
        calls.unlink(missing_ok=True)
        command = [str(tmp_path / "scripts" / "setup"), *extras.split()]
        environment = os.environ | {"PYTHON": str(python)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        installed = [line.split()[-1] for line in calls.read_text().splitlines() if "--editable" in line]
        assert bool(done.stdout) == bool(installed)
        return installed

    typed = ["export serve", "", "export", "serve export", "dev", "sweep dicom"]
    assert [set_up(each) for each in typed] == [[".[export,serve]"], [], [], [], [".[dev]"], []]
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert [set_up(each) for each in ("", "serve", "serve")] == [["."], [".[serve]"], []]


def test_benchmark_shows_what_moved(capsys: pytest.CaptureFixture[str]) -> None:
    old = {"rate": 10.0, "same": 1, "by_batch": {"32": 4, "256": [1, 2]}, "device": "A", "gone": 5}
    new = {"rate": 12.5, "same": 1, "by_batch": {"32": 2, "256": [1, 3]}, "device": "B", "new": 0.5}
    print_table(show_moves(old, new))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {row[1]: row[2:] for row in rows if row[0] == "│"}
    assert shown["rate"] == ["│", "10", "│", "12.5", "│", "1.25", "x", "│"]
    assert shown["by_batch.32"][-3:] == ["0.50", "x", "│"]
    assert {*shown} == {"rate", "by_batch.32", "by_batch.256", "device", "gone", "new"}


@pytest.mark.parametrize(("typed", "message"), [("speed=1", "repeats=N"), ("compare=none.json", "json=FILE wrote")])
def test_benchmark_names_what_it_allows(capsys: pytest.CaptureFixture[str], typed: str, message: str) -> None:
    assert benchmark.main(["train", typed]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@quiet
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes")
def test_benchmark_writes_its_ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = ["path,label,group,split"]
    for index in range(16):
        Image.fromarray(rng.integers(0, 255, (60, 40, 3), np.uint8)).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,class_{index % 2},weld_{index},{'val' if index > 11 else 'train'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    arguments = [f"manifest={tmp_path}/manifest.csv", f"json={tmp_path}/out.json", "repeats=1", "steps=1"]
    # What is tested are not the figures.
    monkeypatch.setattr(benchmark_train, "BATCH", 4)
    monkeypatch.setattr(benchmark_train, "WARMUP", 1)
    assert benchmark.main(["train", *arguments]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    for other in ("bare", "plain"):
        ratio = figures["ours_images_per_s"] / figures[f"{other}_images_per_s"]
        assert figures[f"ours_over_{other}"] == pytest.approx(ratio)


@pytest.mark.slow
def test_an_integrator_s_decoder_changes_no_verdict(
    small: Path, exported: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of docs/deployment.md, small, with OpenCV from the registry, and with a decoder that is wrong."""
    # The graph of the same network: tracing takes many seconds.
    monkeypatch.setattr(preprocessing, "trace_graph", lambda *_: None)
    monkeypatch.setattr(preprocessing, "write_onnx", lambda *_: exported("onnx") / "model.onnx")
    monkeypatch.syspath_prepend(fetch(tmp_path / "packages", "opencv-python-headless", "--no-deps")["PYTHONPATH"])
    find_decoders = preprocessing.find_decoders

    def add_negative(cv2: Any) -> dict[str, Any]:
        return find_decoders(cv2) | {"negative": lambda file: 255 - np.asarray(Image.open(file).convert("RGB"))}

    monkeypatch.setattr(preprocessing, "find_decoders", add_negative)
    table = preprocessing.run(str(small / "run"), 48)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    verdict_changes = {way: changes for kind, way, *_, changes in rows if kind == "photograph"}
    assert verdict_changes.pop("negative") != "0.0 %"
    assert verdict_changes == dict.fromkeys(("Pillow", "OpenCV", "simplejpeg"), "0.0 %")
    errors = {way: float(str(error)) for kind, way, error, *_ in rows if kind == "fixed"}
    # Large JPEGs are decoded at a fraction before so small an input.
    assert errors.pop("Pillow, bilinear") < 0.5
    assert min(errors.values()) > 1


COUNT_SIBLINGS = """
import json, os
parent = os.getppid()
siblings = open(f"/proc/{parent}/task/{parent}/children").read().split()
print(json.dumps({"images_per_s": float(os.environ["GOMP_SPINCOUNT"]), "cpu_ms": len(siblings)}))
"""


@pytest.mark.slow
def test_benchmark_trains_beside_a_busy_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark_shared.py", "1", "2"])
    runpy.run_path(benchmark_shared.__file__, run_name="__main__")
    trained = json.loads(capsys.readouterr().out)
    assert trained.keys() == {"images_per_s", "cpu_ms"}
    assert min(trained.values()) > 0
    (tmp_path / "script.py").write_text(COUNT_SIBLINGS)
    monkeypatch.setattr(benchmark_shared, "__file__", str(tmp_path / "script.py"))
    monkeypatch.setattr(benchmark_shared, "WAYS", {"ours": {"GOMP_SPINCOUNT": "6000"}})
    row = benchmark_shared.run(Options(repeats=1, steps=1))["ways"]["ours"]
    assert row["alone"]["images_per_s"] == row["beside"]["images_per_s"] == 6000
    assert row["share_beside"] == 1
    assert row["beside"]["cpu_ms"] == row["alone"]["cpu_ms"] + 1, "the busy process"


def test_pictures_of_one_spot_have_one_perceptual_hash(tmp_path: Path) -> None:
    files = []
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 255, (12, 9, 3), np.uint8)
        for name, size in (("large", (90, 120)), ("small", (45, 60))):
            files.append(str(tmp_path / f"{seed}_{name}.png"))
            Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(files[-1])
    assert find_hashed(hash_photographs(pl.Series(files))).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
