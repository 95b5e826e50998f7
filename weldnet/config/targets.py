"""`_target_` nodes: checked against their target's signature before anything runs, then instantiated."""

import inspect
import typing
from typing import Any

import hydra.utils
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from weldnet.config.literal import make_literal
from weldnet.errors import InputError, nearest

_OURS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def check_target(key: str, node: DictConfig) -> None:
    """Checks a node's names and types against the signature of its target, and of the targets within it.

    Args:
        key: where the node stands, for the message.

    Raises:
        InputError: there is no such target; it has no such argument; a value is of another type.
    """
    target = find_target(key, node)
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = _type_hints(target)
    for name in map(str, node):
        if name in _OURS:
            continue
        if name not in parameters and not takes_any:
            known = [known for known in parameters if known != "self"]
            raise InputError(
                f"{key}.{name}: {node._target_} has no such argument{nearest(name, known)}"
                f"\n  it takes {', '.join(known)}"
            )
        value, place = node[name], f"{key}.{name}"
        listed = {f"{place}.{index}": each for index, each in enumerate(value)} if OmegaConf.is_list(value) else {}
        nodes = {at: each for at, each in {place: value, **listed}.items() if OmegaConf.is_dict(each)}
        nodes = {at: each for at, each in nodes.items() if "_target_" in each}
        for at, each in nodes.items():
            check_target(at, each)
        if not nodes and name in hints:
            _check_type(place, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, hints[name])


def find_target(key: str, node: DictConfig) -> Any:
    """The class or function that a node names.

    Raises:
        InputError: there is none.
    """
    try:
        return hydra.utils.get_object(str(node._target_))
    except Exception as error:
        raise InputError(f"{key}._target_={node._target_} cannot be imported: {error}") from error


def _type_hints(target: Any) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    # functools.wraps hides the real function behind decorators such as Lightning's on Trainer.
    function = inspect.unwrap(function)
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):
        return {
            name: hint for name, hint in getattr(function, "__annotations__", {}).items() if not isinstance(hint, str)
        }


def _check_type(key: str, value: Any, hint: Any) -> None:
    if value is None:
        return
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticSchemaGenerationError:
        return
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        reasons = dict.fromkeys(line["msg"] for line in error.errors())
        raise InputError(f"{key}={value}: {'; or '.join(reasons)}") from error


def instantiate(key: str, node: DictConfig, **further: Any) -> Any:
    """Checks a node, then makes its object.

    Raises:
        InputError: see `check_target`; or the target itself refuses a value.
    """
    check_target(key, node)
    # Hydra resolves a node and then reads it, and would look up what is left of a literal `${`.
    own, further = (make_literal(make_literal(each)) for each in (OmegaConf.to_container(node, resolve=True), further))
    try:
        return hydra.utils.instantiate(OmegaConf.create(own), **further, _convert_="object")
    except hydra.errors.InstantiationException as error:
        cause = error.__cause__
        # Lightning's MisconfigurationException derives from Exception alone.
        is_lightnings = type(cause).__name__ == "MisconfigurationException"
        if is_lightnings or isinstance(cause, (ValueError, TypeError, RuntimeError, ImportError)):
            raise InputError(f"{key}: {cause}") from error
        raise
