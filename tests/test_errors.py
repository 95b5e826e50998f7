"""The words of a user's mistake."""

import shlex
import sys
from pathlib import Path

import pytest

from weldnet import errors


@pytest.mark.parametrize("folder", ["weldnet", "my welds", "it's"])
@pytest.mark.parametrize("has_own_environment", [True, False])
def test_the_command_that_installs_an_extra_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, has_own_environment: bool
) -> None:
    checkout = tmp_path / folder
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()
    monkeypatch.setattr(errors, "__file__", str(checkout / "weldnet" / "errors.py"))
    monkeypatch.setattr(sys, "prefix", str(checkout / ".venv") if has_own_environment else "/usr")
    words = shlex.split(errors.propose_extra("export"))
    installs = [f"{checkout}/scripts/setup", "export"]
    assert words == (installs if has_own_environment else ["pip", "install", f"{checkout}[export]"])
