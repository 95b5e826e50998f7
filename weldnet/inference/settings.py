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
    """Who is given each verdict of a watched folder: a command by its standard input, or a URL on this machine.

    Attributes:
        command: a program and its arguments, without a shell.
        url: such as `http://127.0.0.1:9000/verdict`; each verdict is posted there.
        timeout_s: of one call, above 0.
    """

    command: list[str] = field(default_factory=list)
    url: str | None = None
    timeout_s: float = 10.0
