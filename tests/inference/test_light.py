"""The line's PC: an export is predicted and served where neither torch nor what only training needs is installed."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from weldnet.commands.overview import COMMANDS
from weldnet.inference.predictor import Predictor

ROOT = Path(__file__).parents[2]

WITHOUT = """
import json, sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

ABSENT, export, photographs = json.loads(sys.argv.pop())
sys.meta_path.insert(0, Missing())
sys.argv = ["weldnet-predict", f"ckpt_path={export}", f"source={photographs}", "output_dir=predicted"]
from weldnet.commands.predict import main
main()

import os, threading
from weldnet.inference.folder_watch import FolderWatch
from weldnet.inference.predictor import Predictor
from weldnet.inference.settings import NotifySettings
from weldnet.serve import process
from weldnet.serve.app import create_app
from weldnet.serve.limits import Limits
from weldnet.serve.records import DecisionRecords
from pathlib import Path
with Predictor(export, 1) as predictor, DecisionRecords(Path("decisions.jsonl"), predictor.facts) as records:
    process.make_server(create_app(predictor, records, Limits()), 1)
    os.mkdir("watched")
    with FolderWatch(Path("watched").absolute(), predictor, photographs, NotifySettings()) as watch:
        for _ in range(2):
            watch.step(threading.Event())
print(sorted({name.partition(".")[0] for name in sys.modules} & {*ABSENT}))
"""


def read_requirements() -> dict[str, str]:
    """Name to line of `requirements-line.txt`."""
    lines = (ROOT / "requirements-line.txt").read_text().splitlines()
    return {Requirement(line).name: line for line in lines if line and not line.startswith("#")}


def read_declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["export"], *extras["serve"]]


def test_the_requirements_of_the_line_are_those_of_the_package() -> None:
    assert set(read_requirements().values()) <= set(read_declared())
    assert f"They need\n{len(read_requirements())} packages and" in (ROOT / "docs" / "deployment.md").read_text()


@pytest.mark.slow
def test_an_export_runs_without_what_only_training_needs(
    small: Path, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    unwanted = {Requirement(line).name for line in read_declared()} - read_requirements().keys()
    assert {"torch", "lightning", "scipy", "scikit-learn"} < unwanted
    modules = packages_distributions()
    absent = [module for module, names in modules.items() if unwanted & {name.lower() for name in names}]
    photographs = small / "welds" / "pore"
    typed = json.dumps([absent, str(exported("onnx")), str(photographs)])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, typed], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    rows = [json.loads(line) for line in (tmp_path / "predicted" / "predictions.jsonl").read_text().splitlines()]
    with Predictor(str(small / "run"), 1) as predictor:
        expected = list(predictor.predict_files([row["path"] for row in rows]))
    watched = [json.loads(line) for line in (tmp_path / "watched" / "predictions.jsonl").read_text().splitlines()]
    assert {row["path"]: row["verdict"] for row in watched} == {row["path"]: row["verdict"] for row in rows}
    assert [row["verdict"] for row in rows] == [each.verdict for each in expected]
    for row, each in zip(rows, expected, strict=True):
        assert row["p_pore"] == pytest.approx(each.probabilities["pore"], abs=1e-4)


SERVER = ("weldnet.commands.serve", "weldnet.inference.predictor", "weldnet.serve.process", "weldnet.serve.app")


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (SERVER, ("polars", "torch", "scipy")),
        # Their help, and the table of runs, are there at once.
        ([f"weldnet.commands.{name}" for name in COMMANDS], ("torch", "sklearn", "optuna")),
        (["weldnet.commands.overview"], ("omegaconf", "rich", "numpy")),
    ],
)
def test_what_is_not_imported(modules: Sequence[str], absent: Sequence[str]) -> None:
    code = f"import sys, {', '.join(modules)}; print(*{{*{absent}}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


REFUSED = """
import sys
from importlib import import_module

sys.modules["torch"] = None
for name, *words in (["test"], ["predict", "source=a.png"], ["explain", "source=a.png"], ["export"], ["train"]):
    sys.argv = [f"weldnet-{name}", "ckpt_path=nowhere", *words]
    try:
        import_module(f"weldnet.commands.{name}").main()
    except SystemExit:
        pass
"""


def test_a_checkpoint_that_is_not_there_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    done = subprocess.run([sys.executable, "-c", REFUSED], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert [line.partition("no checkpoint at")[0] for line in lines] == [
        f"weldnet-{name}: " for name in ("test", "predict", "explain", "export", "train")
    ]
