"""`_target_` nodes: checked against their target's signature before anything runs, then instantiated."""

import inspect
import typing
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from weldnet.config.literal import make_literal
from weldnet.config.trusted import SPECIAL
from weldnet.errors import InputError, nearest


def check_target(key: str, node: DictConfig) -> None:
    """Checks a node's names and types against the signature of its target, and of the targets within it."""
    target = find_target(key, node)
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = _type_hints(target)
    for name in map(str, node):
        if name in SPECIAL:
            continue
        if name not in parameters and not takes_any:
            known = [known for known in parameters if known != "self"]
            raise InputError(
                f"{key}.{name}: {node._target_} has no such argument{nearest(name, known)}"
                f"\n  it takes {', '.join(known)}"
            )
        value, path = node[name], f"{key}.{name}"
        listed = {f"{path}.{index}": each for index, each in enumerate(value)} if OmegaConf.is_list(value) else {}
        inner = {path: value, **listed}.items()
        nodes = {at: each for at, each in inner if OmegaConf.is_dict(each) and "_target_" in each}
        for at, each in nodes.items():
            check_target(at, each)
        if not nodes and name in hints and value is not None:
            _check_type(path, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, hints[name])


def find_target(key: str, node: DictConfig) -> Any:
    """The class or function that a node names."""
    try:
        return hydra.utils.get_object(str(node._target_))
    except Exception as error:
        raise InputError(f"{key}._target_={node._target_} cannot be imported: {error}") from error


def _type_hints(target: Any) -> dict[str, Any]:
    # functools.wraps hides the real function behind decorators such as Lightning's on Trainer.
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):
        hints = getattr(function, "__annotations__", {})
        return {name: hint for name, hint in hints.items() if not isinstance(hint, str)}


def _check_type(key: str, value: Any, hint: Any) -> None:
    try:
        TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except PydanticSchemaGenerationError:
        return
    except ValidationError as error:
        reasons = dict.fromkeys(line["msg"] for line in error.errors())
        raise InputError(f"{key}={value}: {'; or '.join(reasons)}") from error


def instantiate(key: str, node: DictConfig, **further: Any) -> Any:
    """Checks a node, then makes its object."""
    check_target(key, node)
    # Hydra resolves a node and then reads it, and would look up what is left of a literal `${`.
    arguments, further = (
        make_literal(make_literal(each)) for each in (OmegaConf.to_container(node, resolve=True), further)
    )
    try:
        return hydra.utils.instantiate(OmegaConf.create(arguments), **further, _convert_="object")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError)):
            raise InputError(f"{key}: {cause}") from error
        raise
