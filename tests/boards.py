"""What a run has logged to TensorBoard."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from weldnet.training.loggers import name_curve


def read_scalars(run: Path, metric: str) -> list[float]:
    """The logged values of a metric, which Lightning calls so; none where it was not logged."""
    name, events = name_curve(metric), EventAccumulator(str(run)).Reload()
    return [each.value for each in events.Scalars(name)] if name in events.Tags()["scalars"] else []
