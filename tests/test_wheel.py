"""The wheel, as a user installs it."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_an_installed_wheel_trains_from_an_empty_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    # Built from a copy: what an earlier build left in the tree must not come along.
    for name in ("weldnet", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "--verbose", "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    built = subprocess.run(build, check=True, capture_output=True, text=True)
    assert "is absent from the `packages` configuration" not in built.stdout + built.stderr
    (wheel,) = tmp_path.glob("weldnet-*.whl")
    # The editable install beside it would lend what the wheel lacks, so the list is compared, too.
    written = (("weldnet", "*.py"), ("weldnet", "*.html"), ("configs", "*.yaml"))
    names = {str(path.relative_to(source)) for folder, kind in written for path in (source / folder).rglob(kind)}
    names = {name.replace("configs/", "weldnet/configs/") for name in names}
    assert names <= set(zipfile.ZipFile(wheel).namelist())
    site = tmp_path / "site"
    subprocess.run([*pip, "--quiet", "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    here = tmp_path / "empty"
    here.mkdir()
    small = ["experiment=demo", "data.num_images=36", "data.num_seams=6", "trainer=cpu", "trainer.max_epochs=1"]
    small += ["model=timm", "model.backbone=test_resnet", "model.zero_init_residual=false"]
    size = ["data.image_size.height=32", "data.image_size.width=16"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    found = [sys.executable, "-c", "import weldnet, weldnet.configs as c; print(weldnet.__file__, c.__file__)"]
    where = subprocess.run(found, cwd=here, env=environment, check=True, capture_output=True, text=True).stdout
    assert where.count(str(site)) == 2
    command = [str(site / "bin" / "weldnet-train"), *small, *size, "output_dir=run"]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((here / "run" / "metrics.json").read_text())["num_images"] == 6
    assert [path.name for path in here.iterdir()] == ["run"]
