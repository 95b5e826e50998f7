"""Configs as text and back: what was resolved once is saved literally, and nothing in a saved config is looked up."""

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from weldnet.config.upgrade import map_texts, upgrade
from weldnet.errors import InputError

_LIVE = re.compile(r"(?<!\\)(?:\\\\)*\$\{")
"""An interpolation; after an odd number of backslashes `${` is text."""


def escape(text: str) -> str:
    """A text of which OmegaConf looks nothing up; it reads a backslash only before `${`, where each is doubled."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)


def make_literal(value: Any) -> Any:
    """The same nest of dicts and lists with every text escaped."""
    return map_texts(value, escape)


def pin(cfg: DictConfig, folder: Path) -> DictConfig:
    """The config of a run in `folder` with everything in it resolved, once: the time, say, stays what it was."""
    with open_dict(cfg):
        cfg.output_dir = escape(str(folder))
    pinned = OmegaConf.create(make_literal(OmegaConf.to_container(cfg, resolve=True)))
    assert isinstance(pinned, DictConfig)
    return pinned


def parse_config(text: str, where: str) -> DictConfig:
    """A saved config, as `pin` left it, with today's names of what has moved since.

    Args:
        text: YAML, from a checkpoint or a run folder, and untrusted.
        where: it was found, for the message.

    Raises:
        InputError: it is damaged, or holds an interpolation, which could read this machine's environment.
    """
    try:
        saved = OmegaConf.create(text)
        plain: Any = OmegaConf.to_container(saved)
    except Exception as error:
        # A YAML reader fails in many ways; each means the same to the user.
        raise InputError(f"{where}: the config in it is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(saved, DictConfig):
        raise InputError(f"{where}: the config in it is damaged: it is no list of keys")
    if found := _find_live(plain):
        raise InputError(f"{where}: its config holds {found}, and nothing in a saved config is looked up")
    upgraded = OmegaConf.create(upgrade(plain))
    assert isinstance(upgraded, DictConfig)
    return upgraded


def read_config(file: Path) -> DictConfig:
    """The saved config in a file, see `parse_config`."""
    try:
        return parse_config(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: the config in it is damaged: it is not UTF-8") from error


def check_schema(saved: DictConfig, schema: type, where: str) -> None:
    """Raises:
    InputError: a saved config has not the keys and types of a schema.
    """
    try:
        OmegaConf.merge(OmegaConf.structured(schema), saved)
    except OmegaConfBaseException as error:
        raise InputError(f"{where}: the config in it is damaged: {str(error).splitlines()[0]}") from error


def _find_live(value: Any) -> str:
    if isinstance(value, dict):
        return next(filter(None, (_find_live(each) for pair in value.items() for each in pair)), "")
    if isinstance(value, list):
        return next(filter(None, map(_find_live, value)), "")
    return value if isinstance(value, str) and _LIVE.search(value) else ""
