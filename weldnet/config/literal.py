"""Saves configs with every interpolation resolved, and reads them without resolving anything again."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from weldnet.errors import InputError, first_line

_LIVE = re.compile(r"(?<!\\)(?:\\\\)*\$\{")
"""An interpolation: `${`, unless an odd number of backslashes makes it plain text."""

SOURCES = {
    "synthetic": "weldnet.data.sources.source.Synthetic",
    "folder": "weldnet.data.sources.source.Folder",
    "manifest": "weldnet.data.sources.source.Manifest",
}
"""The `_target_` of `data` for each `data.source` of checkpoint format 3."""

MODULE = "weldnet.model.classifier.WeldClassifier"
"""The `_target_` of `model`, which checkpoint format 3 lacks."""

MOVED = {
    "weldnet.dashboard.Dashboard": "weldnet.training.dashboard.Dashboard",
    "weldnet.progress.EpochLines": "weldnet.training.progress.EpochLines",
    "weldnet.progress.Throughput": "weldnet.training.progress.Throughput",
}
"""Each `_target_` in the default config of checkpoint format 3 that has moved since."""


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of nested dicts and lists with every string value changed; keys stay."""
    if isinstance(value, dict):
        return {key: map_texts(child, change) for key, child in value.items()}
    if isinstance(value, list):
        return [map_texts(child, change) for child in value]
    return change(value) if isinstance(value, str) else value


def walk(value: Any, whole: tuple[str, ...] = (), keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The leaves of nested dicts and lists, each after the keys to it; a value under a key of `whole` is a leaf."""
    if not isinstance(value, (dict, list, tuple)) or not value or (keys and keys[-1] in whole):
        yield keys, value
        return
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield from walk(child, whole, (*keys, key))


def escape(text: str) -> str:
    """The text, escaped for OmegaConf, to which a backslash is an escape only before `${`."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)


def make_literal(value: Any) -> Any:
    """A copy of nested dicts and lists with every string value escaped."""
    return map_texts(value, escape)


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """A config as plain dicts, lists and values, resolved."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return {str(key): value for key, value in plain.items()}


def pin(cfg: DictConfig, folder: Path) -> DictConfig:
    """The config of a run in `folder`, resolved once, so that values such as the time never change again."""
    with open_dict(cfg):
        cfg.output_dir = escape(str(folder))
    return DictConfig(make_literal(to_plain(cfg)))


def parse_config(content: str | bytes, where: str) -> DictConfig:
    """A saved config from `pin`, unless it is damaged; one of an older version gets today's targets and new keys."""
    try:
        text = content.decode() if isinstance(content, bytes) else content
        # A few lines of them stand for a thousand million values, and `pin` writes none.
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ValueError("it holds aliases of YAML (*name)")
        plain: Any = OmegaConf.to_container(OmegaConf.create(text))
    # A YAML reader fails in many ways; each means the same to the user.
    except Exception as error:
        raise InputError(f"{where}: the config in it is damaged: {first_line(error)}") from error
    if not isinstance(plain, dict):
        raise InputError(f"{where}: the config in it is damaged: it is not a list of keys")
    # An interpolation could read this machine's environment.
    for text in (str(text) for keys, value in walk(plain) for text in (*keys, value)):
        if _LIVE.search(text):
            raise InputError(f"{where}: its config holds {text}, and nothing in a saved config is resolved again")
    if isinstance(data := plain.get("data"), dict):
        # Before these keys existed, every run worked in this way.
        data.setdefault("normalize", "imagenet")
        data.setdefault("val", "unseen")
        if target := SOURCES.get(str(data.get("source"))):
            del data["source"]
            plain["data"] = {"_target_": target, **data}
    if isinstance(model := plain.get("model"), dict):
        plain["model"] = {"_target_": MODULE, **model}
    return DictConfig(map_texts(plain, lambda text: MOVED.get(text, text)))


def read_config(file: Path) -> DictConfig:
    """The saved config in a file; see `parse_config`."""
    return parse_config(file.read_bytes(), str(file))
