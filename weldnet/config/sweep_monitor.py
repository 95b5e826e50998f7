"""The numbers of a sweep, and the figure by which its trials are judged."""

from collections.abc import Collection

from omegaconf import DictConfig

from weldnet.config.callbacks import AUTO, resolve_monitor
from weldnet.errors import InputError

OF_LAST_EPOCH = "val/balanced_accuracy"
"""What `sweep.monitor=auto` stands for where no figure chooses the epoch."""


def check_settings(cfg: DictConfig) -> None:
    """Checks the node `sweep` of a config, apart from its space."""
    for name in ("trials", "heartbeat"):
        if cfg.sweep[name] < 1:
            raise InputError(f"sweep.{name}={cfg.sweep[name]}: allowed are whole numbers from 1")
    if cfg.trainer.get("fast_dev_run"):
        raise InputError("trainer.fast_dev_run validates no whole epoch; type trainer.max_epochs=1")
    if cfg.sweep.monitor != AUTO:
        _check_monitor(cfg.sweep.monitor)


def settle_monitor(cfg: DictConfig, validation_groups: str, classes: Collection[str]) -> None:
    """Replaces `auto` in `callbacks.best.monitor` and `sweep.monitor`; `classes` are those with validation images."""
    resolve_monitor(cfg, validation_groups)
    settings, best = cfg.sweep, cfg.callbacks.get("best")
    if settings.monitor == AUTO:
        settings.monitor = (best and best.monitor) or OF_LAST_EPOCH
    _check_monitor(settings.monitor, classes)
    if best and best.monitor not in (None, settings.monitor):
        raise InputError(
            f"sweep.monitor={settings.monitor}, but a trial keeps its epoch by callbacks.best.monitor={best.monitor}; "
            "leave sweep.monitor out, or type both alike"
        )


def _check_monitor(monitor: str, classes: Collection[str] | None = None) -> None:
    from weldnet.training.monitors import check_monitor

    if not monitor.startswith("val"):
        raise InputError(
            f"sweep.monitor={monitor}: a sweep is judged by validation images, so that the test stays unseen; "
            "type sweep.monitor=val/balanced_accuracy, for example"
        )
    check_monitor("sweep.monitor", monitor, classes)
