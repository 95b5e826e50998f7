"""An export folder is read as a stranger's: what is not right in it is refused in words."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exports import sign, write_export

from weldnet.errors import InputError, propose_extra
from weldnet.evaluation.verdicts import OperatingPoint
from weldnet.inference.engines import import_extra
from weldnet.inference.exported import FORMATS, load_export
from weldnet.inference.predictor import load_engine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exports(exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export in ONNX and one in OpenVINO."""
    folder = tmp_path_factory.mktemp("exported")
    for name in ("onnx", "openvino"):
        write_export(exported(name), folder / name)
    return folder


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_facts(exports: Path, name: str) -> None:
    facts = load_engine(str(exports / name)).facts
    content = (exports / name / "model.json").read_bytes()
    record = json.loads(content)
    assert facts.digest == hashlib.sha256(content).hexdigest()
    assert facts.checkpoint_digest == record["checkpoint"]["digest"]
    assert facts.classes == ["good", "pore"]
    assert (facts.geometry.height, facts.geometry.width) == (32, 16)
    assert facts.point == OperatingPoint.from_dict(record["point"])
    assert facts.vocabulary == {"pore": "2017 surface pore"}
    runtime = FORMATS[name].packages[-1]
    assert facts.runtime == f"{runtime} {import_extra(runtime).__version__.split('-')[0]} float32"


def test_version_1_takes_grey_levels_as_they_are(exports: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exports / "onnx", tmp_path / "copy")
    record = json.loads((folder / "model.json").read_text())
    assert record["geometry"].pop("normalize") == "imagenet"
    del record["input"]
    (folder / "model.json").write_text(json.dumps(record | {"format_version": 1}))
    assert load_engine(str(folder)).facts.geometry == load_engine(str(exports / "onnx")).facts.geometry


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_threads_do_not_disturb_each_other(exports: Path, name: str) -> None:
    engine = load_export(exports / name, device="cpu", precision="float32")
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (size, 3, 32, 16), np.uint8) for size in (1, 7, 33, 4) * 10]
    alone = [engine.score(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine.score, batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)
        np.testing.assert_allclose(one.distances, other.distances, rtol=1e-5)
        np.testing.assert_allclose(one.probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("onnx", {"precision": "bf16"}, "format=openvino"),
        ("onnx", {"precision": "fp8"}, "allowed are float32, bf16"),
        ("onnx", {"device": "cuda"}, "allowed are auto, cpu"),
        ("openvino", {"device": "cuda:0"}, "allowed are auto, cpu"),
    ],
)
def test_what_it_does_not_run_with(exports: Path, name: str, asked: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_export(exports / name, **({"device": "auto", "precision": "float32"} | asked))


RECORDS: list[tuple[dict[str, Any], str]] = [
    ({"classes": "good"}, "classes"),
    ({"classes": ["good", 3]}, r"classes\.1"),
    ({"classes": ["good", "good"]}, "twice"),
    ({"classes": ["good", "pore", "crack"]}, "3 probabilities"),
    ({"classes": ["bad", "pore"]}, "none of the classes"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": -1.0}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"geometry": {"height": 0, "width": 16}}, "1 to 4096 pixels"),
    ({"geometry": {"height": 40, "width": 16}}, "does not run"),
    ({"point": {}}, "point"),
    ({"format": "torch"}, "format"),
    ({"format": "openvino"}, "no file model.xml"),
    ({"format_version": 4}, "format_version"),
    ({"geometry": {"height": 32, "width": 16, "normalize": "grey"}}, "data.normalize=grey"),
    ({"files": {}}, "model.onnx is not the file"),
    ({"files": {"../../etc/passwd": "0" * 64}}, "model.onnx is not the file"),
    ({"files": {"model.onnx": "0" * 64}}, "model.onnx is not the file"),
    ({"checkpoint": {"name": "best.ckpt"}}, "checkpoint.digest"),
    ({"code": "import os"}, "code"),
]


@pytest.mark.parametrize(("changes", "message"), RECORDS)
def test_forged_records(exports: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = shutil.copytree(exports / "onnx", tmp_path / "copy")
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | changes))
    with pytest.raises(InputError, match=message) as refusal:
        load_engine(str(folder))
    assert str(folder) in str(refusal.value)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def link_outside(file: Path) -> None:
    outside = shutil.move(file, file.parent.parent / "outside")
    file.symlink_to(outside)


def link_inside(file: Path) -> None:
    file.symlink_to(shutil.move(file, file.parent / "elsewhere"))


def make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def make_huge(file: Path) -> None:
    with file.open("ab") as grown:
        grown.truncate(2**32)


def refer_outside(file: Path) -> None:
    """An ONNX whose first weights are in a separate file."""
    network = onnx.load(file)
    weights = network.graph.initializer[0]
    (file.parent.parent / "secret").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../secret")
    file.write_bytes(network.SerializeToString())


def rename_output(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"distance", b"distanza"))


def write_text(file: Path) -> None:
    file.write_text("no network")


FILE_CASES: list[tuple[str, str, Callable[[Path], object], bool, str]] = [
    ("onnx", "model.json", write_text, False, "Invalid JSON"),
    ("onnx", "model.json", make_huge, False, "larger than 1 MiB"),
    ("onnx", "model.json", link_outside, False, "symbolic link that leaves"),
    ("onnx", "model.onnx", Path.unlink, False, "no file model.onnx"),
    ("onnx", "model.onnx", cut, False, "is not the file"),
    ("onnx", "model.onnx", cut, True, "does not run"),
    ("onnx", "model.onnx", write_text, True, "does not run"),
    ("onnx", "model.onnx", link_outside, True, "symbolic link that leaves"),
    ("onnx", "model.onnx", make_pipe, False, "no file model.onnx"),
    ("onnx", "model.onnx", make_huge, False, "larger than 2048 MiB"),
    ("onnx", "model.onnx", refer_outside, True, "a separate file, which is never read"),
    ("onnx", "model.onnx", rename_output, True, "does not run"),
    ("openvino", "model.xml", write_text, True, "no XML"),
    ("openvino", "model.xml", refer_outside, True, "no XML"),
    ("openvino", "model.xml", cut, True, "does not run"),
    ("openvino", "model.bin", cut, False, "is not the file"),
    ("openvino", "model.bin", cut, True, "does not run"),
    ("openvino", "model.bin", link_outside, True, "symbolic link that leaves"),
]


@pytest.mark.parametrize(("name", "file", "change", "signed", "message"), FILE_CASES)
def test_damaged_files(
    exports: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    file: str,
    change: Callable[[Path], object],
    signed: bool,
    message: str,
) -> None:
    folder = shutil.copytree(exports / name, tmp_path / "copy")
    if (name, change) == ("openvino", refer_outside):
        shutil.copy(exports / "onnx" / "model.onnx", folder / file)
    change(folder / file)
    if signed:
        sign(folder)
    with pytest.raises(InputError, match=message):
        load_engine(str(folder))
    assert capfd.readouterr() == ("", "")


def test_links_inside_the_folder_are_followed(exports: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exports / "onnx", tmp_path / "copy")
    link_inside(folder / "model.onnx")
    (tmp_path / "link").symlink_to(folder)
    assert load_engine(str(tmp_path / "link")).facts.classes == ["good", "pore"]


def test_a_missing_package_is_named(exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=re.escape(propose_extra("export"))):
        load_engine(str(exports / "onnx"))


def test_nothing_is_sent_to_an_analytics_service(exports: Path, tmp_path: Path) -> None:
    """OpenVINO's reports would leave an identity in the home folder; nncf's go the same way."""
    code = (
        "import sys; from pathlib import Path\n"
        "from weldnet.inference.engines import import_extra; from weldnet.inference.exported import load_export\n"
        "load_export(Path(sys.argv[1]), device='cpu', precision='float32'); import_extra('nncf')\n"
        "assert not [name for name, module in sys.modules.items() if module and 'openvino_telemetry' in name]\n"
    )
    quiet = os.environ | {"HOME": str(tmp_path), "CI": ""}
    subprocess.run([sys.executable, "-c", code, str(exports / "openvino")], env=quiet, check=True)
    assert not (tmp_path / "intel").exists()


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_signal_after_engines_were_dropped_ends_nothing(exports: Path, name: str) -> None:
    """Each core of OpenVINO gives the thread a stack for signals, and takes it back in the order of their making."""
    code = (
        "import gc, signal, sys; from pathlib import Path; from weldnet.inference.exported import load_export\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "first, second = (load_export(Path(sys.argv[1]), device='cpu', precision='float32') for _ in range(2))\n"
        "del first; gc.collect()\n"
        "del second; gc.collect()\n"
        "signal.raise_signal(signal.SIGUSR1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(exports / name)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
