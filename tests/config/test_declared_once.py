"""A setting and its default are declared in one place."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf
from schemas import SCHEMAS

from weldnet.config.schema import DataConfig, ModelConfig, TrainConfig

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
GROUPS = {"data": DataConfig, "model": ModelConfig, "experiment": TrainConfig}


def test_every_command_is_compared() -> None:
    # `overview` and `runs` take no keys.
    commands = {file.stem for file in (ROOT / "weldnet" / "commands").glob("[a-z]*.py")} - {"overview", "runs"}
    assert commands == SCHEMAS.keys()


def flatten(node: DictConfig, above: str = "") -> Iterator[tuple[str, Any]]:
    for name in map(str, node):
        if not OmegaConf.is_missing(node, name):
            if isinstance(node[name], DictConfig):
                yield from flatten(node[name], f"{above}{name}.")
            else:
                yield f"{above}{name}", node[name]


def find_schema(file: Path) -> type | None:
    return GROUPS.get(file.parent.name) if file.parent != CONFIGS else SCHEMAS.get(file.stem)


@pytest.mark.parametrize("file", [file for file in CONFIGS.rglob("*.yaml") if find_schema(file)], ids=str)
def test_no_file_repeats_a_default(file: Path) -> None:
    declared, content = dict(flatten(OmegaConf.structured(find_schema(file)))), OmegaConf.load(file)
    assert isinstance(content, DictConfig)
    content.pop("hydra", None)
    repeated = [key for key, value in flatten(content) if key in declared and declared[key] == value]
    assert repeated == []


@pytest.mark.parametrize("file", [*CONFIGS.rglob("*.yaml")], ids=str)
def test_no_node_repeats_a_default_of_its_target(file: Path) -> None:
    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    for node in (content, *(each for each in content.values() if isinstance(each, dict))):
        target = str(node.get("_target_"))
        if target.startswith("weldnet."):
            parameters = inspect.signature(hydra.utils.get_object(target)).parameters
            # Null lists a key, so that it needs no plus.
            given = [name for name in node if name in parameters and node[name] is not None]
            assert [name for name in given if parameters[name].default == node[name]] == []


NAMESAKES = {("seed", 0)}
"""Also the seed of a bootstrap, and of the images that calibrate an int8 network: neither is the run's."""


def find_settings(kind: Any) -> set[Any]:
    """The dataclasses that declare the settings of one, those within it included."""
    found: set[Any] = {each for each in kind.__mro__ if is_dataclass(each)}
    for hint in get_type_hints(kind).values():
        if is_dataclass(hint) and hint not in found:
            found |= find_settings(hint)
    return found


def list_declared() -> dict[tuple[str, object], str]:
    """Every default of a setting, by its name and value, and the file that declares it."""
    kinds: set[Any] = set().union(*map(find_settings, SCHEMAS.values()))
    return {
        (each.name, each.default): inspect.getfile(kind)
        for kind in kinds
        for each in fields(kind)
        if each.default not in (None, MISSING, "???") and each.name in vars(kind).get("__annotations__", {})
    }


def list_defaults(file: Path) -> Iterator[tuple[str, object, int]]:
    """Every default in a file that is a constant: of a parameter or an attribute of a class, with its line."""
    pairs: list[tuple[str, ast.expr | None]] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.arguments):
            names = [each.arg for each in [*node.posonlyargs, *node.args]]
            pairs += zip(names[len(names) - len(node.defaults) :], node.defaults, strict=True)
            pairs += zip([each.arg for each in node.kwonlyargs], node.kw_defaults, strict=True)
        elif isinstance(node, ast.ClassDef):
            pairs += [
                (each.target.id, each.value)
                for each in node.body
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
            ]
    for name, value in pairs:
        if isinstance(value, ast.Constant):
            yield name, value.value, value.lineno


def test_no_constructor_repeats_a_default() -> None:
    declared = list_declared()
    assert ("batch_size", 32) in declared
    seen: dict[tuple[str, object], list[str]] = {}
    for file in sorted((ROOT / "weldnet").rglob("*.py")):
        for name, value, line in list_defaults(file):
            if (name, value) in declared.keys() - NAMESAKES:
                seen.setdefault((name, value), []).append(f"{file.relative_to(ROOT)}:{line}")
    repeated = {f"{name}={value}": places for (name, value), places in seen.items() if len(places) > 1}
    assert repeated == {}
