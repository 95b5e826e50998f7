"""What a callback may watch: the figures there are, which way each is better, and whether they will be there."""

import math
from collections.abc import Collection

from lightning import Trainer

from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError, count, nearest, shorten
from weldnet.evaluation.metrics import METRICS
from weldnet.hardware import check_memory, check_processes

BETTER = {metric.key: metric.better for metric in METRICS}

LOGGED = [
    f"{stage}/{metric.key}"
    for stage in ("train", "val")
    for metric in METRICS
    if stage == "val" or not metric.of_groups
]
RECALL = "val_recall/"

BYTES_PER_PIXEL = 64
"""What a step keeps of each pixel of a batch at the very least: the first convolution's 64 channels at half the size,
with their gradients, are more."""


def find_mode(monitor: str) -> str:
    """`min` where the figure is better the lower, `max` where it is better the higher."""
    return "max" if monitor.startswith(RECALL) else BETTER[monitor.partition("/")[2]]


def check_monitor(key: str, monitor: str, classes: Collection[str] | None = None) -> None:
    """Checks that a figure is logged; `classes` are those with validation images, None while the data are not known."""
    if monitor.startswith(RECALL):
        name = monitor.removeprefix(RECALL)
        if classes is not None and name not in classes:
            raise InputError(
                f"{key}={monitor}: no validation image of a class {name!r}{nearest(name, classes)}; there are "
                f"{shorten(sorted(classes), 20)}"
            )
    elif monitor not in LOGGED:
        raise InputError(
            f"{key}={monitor} is not logged{nearest(monitor, LOGGED)}; there are {', '.join(LOGGED)} and "
            f"{RECALL}<class>"
        )


def check_fit(data: WeldDataModule, trainer: Trainer) -> None:
    """Refuses, before the first step, what data that are set up and a trainer cannot do together."""
    if num_workers := data.image_settings.num_workers:
        check_processes("data.num_workers times trainer.devices", num_workers * trainer.num_devices)
    if (number := len(data.samples("select"))) < trainer.world_size:
        raise InputError(
            f"{count(number, 'validation image')} to choose the epoch by, for {trainer.world_size} processes: each "
            "needs one or more; take more validation images, or fewer trainer.devices"
        )
    batch_size = data.batch_settings.batch_size
    if trainer.strategy.root_device.type == "cpu":
        pixels = min(batch_size, len(data.samples("train"))) * data.geometry.height * data.geometry.width
        check_memory(f"data.batch_size={batch_size}", pixels * BYTES_PER_PIXEL, "a smaller data.batch_size")
    total = len(data.training_batches(trainer.world_size))
    batches = _limit(trainer.limit_train_batches, total)
    if not batches:
        raise InputError(f"trainer.limit_train_batches={trainer.limit_train_batches} leaves none of {total} batches")
    if getattr(trainer, "fast_dev_run", False):
        return
    is_validated = _first_validation(trainer, batches) <= _count_batches(trainer, batches)
    validated = _validated_classes(data, trainer) if is_validated else set()
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor, key = getattr(callback, "monitor", None), f"monitor of {type(callback).__name__}"
        if not isinstance(monitor, str):
            continue
        if monitor.startswith("val") and not validated:
            raise InputError(
                f"{key}={monitor}: training ends before the first validation. An epoch has {batches} batches; give it "
                "more of trainer.max_epochs or max_steps, validate sooner (trainer.val_check_interval=0.5, "
                "trainer.limit_val_batches), or keep the last epoch by callbacks=keep_last"
            )
        check_monitor(key, monitor, validated)


def _limit(limit: float, total: int) -> int:
    """How many of some batches are left by a whole number of them, or by a share."""
    return min(limit, total) if isinstance(limit, int) else int(limit * total)


def _validated_classes(data: WeldDataModule, trainer: Trainer) -> set[str]:
    """The classes that a validation of the training sees."""
    labels, size = data.samples("select")["label"], data.batch_settings.batch_size
    share = math.ceil(len(labels) / trainer.world_size)
    batches = _limit(trainer.limit_val_batches, math.ceil(share / size))
    return set(labels.head(batches * size * trainer.world_size))


def _count_batches(trainer: Trainer, batches: int) -> float:
    """The training batches of the whole run, for `batches` an epoch."""
    epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
    if trainer.max_steps < 0:
        return epochs * batches
    every = trainer.accumulate_grad_batches
    full, rest = divmod(trainer.max_steps, math.ceil(batches / every))
    return min(epochs * batches, full * batches + rest * every)


def _first_validation(trainer: Trainer, batches: int) -> float:
    """The number of batches after which the first validation comes."""
    interval = getattr(trainer, "val_check_interval", None)
    if not isinstance(interval, (int, float)):
        # After some time: nobody knows how many batches that is.
        return 1
    if trainer.check_val_every_n_epoch is None:
        return interval
    if isinstance(interval, int) and interval > batches:
        raise InputError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches. Type fewer, or a share such as "
            "0.5; trainer.check_val_every_n_epoch=null counts on through the epochs"
        )
    within = interval if isinstance(interval, int) else max(1, int(interval * batches))
    return (trainer.check_val_every_n_epoch - 1) * batches + within
