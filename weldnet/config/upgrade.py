"""What an older weldnet called things in the configs it saved."""

from typing import Any

MOVED = {
    "weldnet.dashboard.Dashboard": "weldnet.training.dashboard.Dashboard",
    "weldnet.progress.EpochLines": "weldnet.training.progress.EpochLines",
    "weldnet.progress.Throughput": "weldnet.training.progress.Throughput",
}
"""Targets in the default config of checkpoint format 3 that have moved since."""


def upgrade(config: Any) -> Any:
    """The same nest of dicts and lists with today's names of what has moved."""
    if isinstance(config, list):
        return [upgrade(each) for each in config]
    if not isinstance(config, dict):
        return config
    return {
        key: MOVED.get(value, value) if key == "_target_" and isinstance(value, str) else upgrade(value)
        for key, value in config.items()
    }
