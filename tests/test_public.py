"""`import weldnet`, and what it offers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from drawing import write_welds
from training_runs import quiet

import weldnet

GUIDE = Path(__file__).parents[1] / "docs" / "python.md"


def test_importing_it_costs_nothing() -> None:
    code = "import sys; before = set(sys.modules); import weldnet; dir(weldnet); print(*set(sys.modules) - before)"
    added = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.partition(".")[0] for name in added} - sys.stdlib_module_names == {"weldnet"}


@pytest.mark.parametrize("name", weldnet.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(weldnet, name).__name__ == name
    assert f"`{name}`" in GUIDE.read_text(encoding="utf-8")


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        _ = weldnet.train
    assert re.fullmatch(r"\d+\.\d+\.\d+", weldnet.__version__)


@pytest.mark.slow
@quiet
@pytest.mark.filterwarnings("ignore:.*does not support|The dirpath .* is not empty")
def test_the_program_of_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_welds(tmp_path / "photos", seams=range(10), shots=1)
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in program.splitlines() if line]) <= 32
    names: dict[str, object] = {}
    exec(program, names)
    assert getattr(names["heatmap"], "shape") == (300, 30)  # noqa: B009
    assert (tmp_path / "run" / "report.html").is_file()
    assert re.search(r"pore (accept|reject|refer)|crack (accept|reject|refer)", capsys.readouterr().out)
