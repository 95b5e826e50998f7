"""The settings of running a network."""

from dataclasses import dataclass, field


@dataclass
class DeviceSettings:
    """Where a network runs: `auto`, or the name of a device of torch's."""

    device: str = "auto"


@dataclass
class EngineSettings(DeviceSettings):
    """How a checkpoint or an export runs: `precision` is `float32` or `bf16`."""

    precision: str = "float32"


@dataclass
class NotifySettings:
    """Who is given each verdict of a watched folder, within `timeout_s`: a command by its standard input, without a
    shell, or a URL on this machine, such as `http://127.0.0.1:9000/verdict`."""

    command: list[str] = field(default_factory=list)
    url: str | None = None
    timeout_s: float = 10.0
