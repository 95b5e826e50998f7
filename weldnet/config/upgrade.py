"""What an older weldnet called things in the configs it saved."""

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


def upgrade(config: dict[str, Any]) -> dict[str, Any]:
    """A saved config with today's names."""
    data = config.get("data")
    if isinstance(data, dict) and (target := SOURCES.get(str(data.get("source")))):
        rest = {key: value for key, value in data.items() if key != "source"}
        config = config | {"data": {"_target_": target, **rest}}
    upgraded: dict[str, Any] = _rename(config)
    return upgraded


def _rename(config: Any) -> Any:
    """The same nest of dicts and lists with the targets that have moved."""
    if isinstance(config, list):
        return [_rename(each) for each in config]
    if not isinstance(config, dict):
        return config
    return {
        key: MOVED.get(value, value) if key == "_target_" and isinstance(value, str) else _rename(value)
        for key, value in config.items()
    }
