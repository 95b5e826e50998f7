"""The settings of running a network."""

from dataclasses import dataclass


@dataclass
class DeviceSettings:
    """Where a network runs: `auto`, or the name of a device of torch's."""

    device: str = "auto"


@dataclass
class EngineSettings(DeviceSettings):
    """How a checkpoint or an export runs: `precision` is `float32` or `bf16`."""

    precision: str = "float32"
