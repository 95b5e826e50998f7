"""What an older weldnet called things in the configs it saved."""

from collections.abc import Callable
from typing import Any

SOURCES = {
    "synthetic": "weldnet.data.sources.source.Synthetic",
    "folder": "weldnet.data.sources.source.Folder",
    "manifest": "weldnet.data.sources.source.Manifest",
}
"""The targets of what checkpoint format 3 has as `data.source`."""

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


def upgrade(config: dict[str, Any]) -> Any:
    """A saved config with today's names."""
    data = config.get("data")
    if isinstance(data, dict) and (target := SOURCES.get(str(data.get("source")))):
        rest = {key: value for key, value in data.items() if key != "source"}
        config = config | {"data": {"_target_": target, **rest}}
    return map_texts(config, lambda text: MOVED.get(text, text))
