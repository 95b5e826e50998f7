"""Configs as text and back: what was resolved once is saved literally, and never resolved again."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from weldnet.errors import InputError, first_line

_LIVE = re.compile(r"(?<!\\)(?:\\\\)*\$\{")
"""An interpolation; after an odd number of backslashes `${` is text."""

SOURCES = {
    "synthetic": "weldnet.data.sources.source.Synthetic",
    "folder": "weldnet.data.sources.source.Folder",
    "manifest": "weldnet.data.sources.source.Manifest",
}
"""The targets of what checkpoint format 3 has as `data.source`."""

MODULE = "weldnet.model.classifier.WeldClassifier"
"""The target of what checkpoint format 3 has as `model`."""

MOVED = {
    "weldnet.dashboard.Dashboard": "weldnet.training.dashboard.Dashboard",
    "weldnet.progress.EpochLines": "weldnet.training.progress.EpochLines",
    "weldnet.progress.Throughput": "weldnet.training.progress.Throughput",
}
"""Targets in the default config of checkpoint format 3 that have moved since."""


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The same nest of dicts and lists with every text in it changed; keys stay."""
    if isinstance(value, dict):
        return {key: map_texts(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [map_texts(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def walk(value: Any, whole: tuple[str, ...] = (), keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value in a nest that holds no further one, or stands under a key of `whole`; with the keys to it."""
    if not isinstance(value, (dict, list, tuple)) or not value or (keys and keys[-1] in whole):
        yield keys, value
        return
    for name, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield from walk(child, whole, (*keys, name))


def escape(text: str) -> str:
    """A text in which OmegaConf resolves nothing; it reads a backslash only before `${`, where each is doubled."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)


def make_literal(value: Any) -> Any:
    """The same nest of dicts and lists with every text escaped."""
    return map_texts(value, escape)


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """A config as resolved dicts, lists and values."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return {str(key): value for key, value in plain.items()}


def pin(cfg: DictConfig, folder: Path) -> DictConfig:
    """The config of a run in `folder`, resolved once, so that the time, for example, stays the same."""
    with open_dict(cfg):
        cfg.output_dir = escape(str(folder))
    return DictConfig(make_literal(to_plain(cfg)))


def parse_config(content: str | bytes, where: str) -> DictConfig:
    """A saved config, as `pin` left it, with today's names of what has moved since, and with keys that are new.

    Raises:
        InputError: it is damaged, or holds an interpolation, which could read this machine's environment.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        plain: Any = OmegaConf.to_container(OmegaConf.create(text))
    # A YAML reader fails in many ways; each means the same to the user.
    except Exception as error:
        raise InputError(f"{where}: the config in it is damaged: {first_line(error)}") from error
    if not isinstance(plain, dict):
        raise InputError(f"{where}: the config in it is damaged: it is no list of keys")
    for text in (str(text) for keys, value in walk(plain) for text in (*keys, value)):
        if _LIVE.search(text):
            raise InputError(f"{where}: its config holds {text}, and nothing in a saved config is resolved again")
    data = plain.get("data")
    if isinstance(data, dict) and (target := SOURCES.get(str(data.get("source")))):
        del data["source"]
        plain["data"] = {"_target_": target, **data}
    if isinstance(data := plain.get("data"), dict):
        # What a run did before there was a choice.
        data.setdefault("normalize", "imagenet")
    if isinstance(model := plain.get("model"), dict):
        plain["model"] = {"_target_": MODULE, **model}
    return DictConfig(map_texts(plain, lambda text: MOVED.get(text, text)))


def read_config(file: Path) -> DictConfig:
    """The saved config in a file, see `parse_config`."""
    return parse_config(file.read_bytes(), str(file))
