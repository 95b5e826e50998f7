"""What the writer of the line's software meets: the examples in docs/, and the oldest runtime."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import openvino
import pytest
from fetching import fetch
from PIL import Image

from weldnet.export.graph import CODES
from weldnet.inference.onnx_format import OLDEST_RUNTIME

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def export(exported: Callable[[str], Path]) -> Path:
    return exported("onnx")


def find_openvino(_: Path) -> tuple[Path, Path]:
    """The folder of the C++ headers, and the library; its wheel brings both."""
    package = Path(openvino.__file__).parent
    if not (libraries := sorted((package / "libs").glob("libopenvino.so*"))):
        pytest.skip("OpenVINO is not its wheel for Linux")
    return package / "include", libraries[0]


def find_onnxruntime(folder: Path) -> tuple[Path, Path]:
    """The same; its wheel brings the library alone, under a name that no linker looks for."""
    headers = os.environ.get("ONNXRUNTIME_INCLUDE")
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if headers is None or not libraries:
        pytest.skip("ONNXRUNTIME_INCLUDE does not name the folder of ONNX Runtime's C++ headers")
    (folder / "libonnxruntime.so.1").symlink_to(libraries[0])
    return Path(headers), folder / "libonnxruntime.so.1"


@pytest.mark.parametrize(
    ("example", "find"), [("verdict.cpp", find_openvino), ("verdict_onnxruntime.cpp", find_onnxruntime)]
)
def test_an_example_gives_what_the_check_holds(export: Path, tmp_path: Path, example: str, find: Any) -> None:
    headers, library = find(tmp_path)
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    compiler: list[str | Path] = ["g++", "-std=c++17", "-Wall", "-Werror", EXAMPLES / example, "-I", headers, library]
    subprocess.run([*compiler, f"-Wl,-rpath,{library.parent}", "-o", tmp_path / "verdict"], check=True)
    for case in json.loads((export / "check" / "expected.json").read_text()):
        Image.open(export / "check" / case["file"]).save(tmp_path / "a.ppm")
        command = [tmp_path / "verdict", export / "model.onnx", tmp_path / "a.ppm"]
        words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        outputs = case["outputs"]
        assert words[0] == list(CODES)[outputs["verdict"][0]]
        assert float(words[2]) == pytest.approx(outputs["score"][0], abs=1e-3)
        assert int(words[6]) == outputs["class_index"][0]


def test_the_oldest_runtime_passes_the_check(export: Path, tmp_path: Path) -> None:
    """The one that README.md names, with the numpy that it was built for."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip(f"onnxruntime {OLDEST_RUNTIME} has wheels for Python 3.11 at the latest")
    alone = fetch(tmp_path / "packages", f"onnxruntime=={OLDEST_RUNTIME}", "numpy<2", "pillow")
    code = (
        "import onnxruntime, runpy, sys; assert onnxruntime.__version__ == sys.argv[2], onnxruntime.__version__; "
        "runpy.run_path(sys.argv[1], None, '__main__')"
    )
    command: list[str | Path] = [sys.executable, "-c", code, export / "check.py", OLDEST_RUNTIME]
    checked = subprocess.run(command, capture_output=True, text=True, env=alone)
    assert checked.returncode == 0, checked.stderr
    assert len(checked.stdout.splitlines()) == 3
    assert OLDEST_RUNTIME in (export / "README.md").read_text()
