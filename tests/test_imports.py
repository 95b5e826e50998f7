"""The floors of the house: a file imports from its own room and from the floors below."""

import ast
from pathlib import Path

import pytest

import weldnet

HOUSE = Path(weldnet.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))
GROUND = ("weldnet.errors", "weldnet.files", "weldnet.hardware", "weldnet.spelling")
FLOOR_1 = ("weldnet.data", "weldnet.model", "weldnet.evaluation")


def read_imports(file: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function; for `from a import b` also `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def within(name: str, *rooms: str) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(HOUSE).as_posix())
def test_floors(file: Path) -> None:
    module = ".".join(("weldnet", *file.relative_to(HOUSE).with_suffix("").parts))
    imports = read_imports(file)
    ours = {name for name in imports if within(name, "weldnet") and name != "weldnet"}
    for room in FLOOR_1:
        if within(module, room):
            assert {name for name in ours if not within(name, room, *GROUND)} == set()
    if module in GROUND:
        assert {name for name in ours if not within(name, "weldnet.errors")} == set()
    if not within(module, "weldnet.commands"):
        assert {name for name in ours if within(name, "weldnet.commands")} == set()
    if not within(module, "weldnet.commands", "weldnet.config"):
        assert {name for name in imports if within(name, "hydra", "omegaconf", "weldnet.config")} == set()


def test_the_house_is_read() -> None:
    assert {file.relative_to(HOUSE).parts[0] for file in FILES} >= {"data", "model", "evaluation", "commands"}
    assert "weldnet.errors" in read_imports(HOUSE / "data" / "splits.py")
