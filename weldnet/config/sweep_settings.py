"""The node `sweep` of a config: what is searched, and the figure by which trials are judged."""

import math
from collections.abc import Collection, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from weldnet.config.callbacks import AUTO, resolve_monitor
from weldnet.config.resumable import OF_SPLITS
from weldnet.data.sources.source import PATHS
from weldnet.errors import InputError, nearest

RANGE = ("low", "high", "log", "step")

NOT_SEARCHED = {
    **dict.fromkeys(("sweep", "output_dir", "ckpt_path", "test", "callbacks", "logger"), "it is the sweep's own"),
    **dict.fromkeys(
        (*OF_SPLITS, *(f"data.{key}" for key in PATHS), "evaluation"),
        "with it the trials would be judged by different images or classes",
    ),
}
"""Keys whose values all trials share, and why."""

OF_LAST_EPOCH = "val/balanced_accuracy"
"""What `sweep.monitor=auto` stands for where no figure chooses the epoch."""


def read_space(node: Any, above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The keys of a search space, each with its `choices` or its range."""
    for name, value in node.items():
        key = f"{above}{name}"
        if not isinstance(value, dict):
            raise InputError(
                f"sweep.space.{key}={value}: allowed are {{low:A,high:B}} and {{choices:[A,B]}}, in quotes: "
                f"'sweep.space.{key}={{low:A,high:B}}'"
            )
        if {*RANGE, "choices"}.isdisjoint(value):
            yield from read_space(value, f"{key}.")
        else:
            yield key, _check_spec(key, value)


def _check_spec(key: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The choices or the range of a key, checked; the range ends with the last of its steps."""
    from optuna.trial import FixedTrial

    from weldnet.training.trials import suggest

    where, allowed = f"sweep.space.{key}", ("choices",) if "choices" in spec else RANGE
    for name in spec:
        if name not in allowed:
            raise InputError(f"{where}.{name}: no such key{nearest(name, allowed)}; there are {', '.join(allowed)}")
    if "choices" in spec:
        choices = spec["choices"]
        if not isinstance(choices, list) or any(isinstance(each, (list, dict)) for each in choices):
            raise InputError(f"{where}.choices={choices}: allowed is a list of numbers, texts, true, false and null")
    elif not all(
        type(end) in (int, float) and abs(end) < math.inf for end in (spec.get("low", ""), spec.get("high", ""))
    ):
        raise InputError(f"{where} needs two numbers, low and high; 1e-5 is one, '1e-5' and null are none")
    trial = FixedTrial({key: next(iter(list_ends(spec)), None)})
    try:
        suggest(trial, key, spec)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: {str(error).splitlines()[0]}") from error
    high = getattr(trial.distributions[key], "high", None)
    return spec if high is None else spec | {"high": high}


def list_ends(spec: dict[str, Any]) -> list[Any]:
    """The least and greatest value of a key, or all of its choices."""
    return spec["choices"] if "choices" in spec else [spec["low"], spec["high"]]


def check_key(cfg: DictConfig, key: str) -> None:
    """Refuses a key that no config has, or that all trials share."""
    for fixed, reason in NOT_SEARCHED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            raise InputError(f"sweep.space.{key} is not searched: {reason}")
    above, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, above) if above else cfg
    known = list(map(str, node)) if OmegaConf.is_dict(node) else []
    if name not in known:
        raise InputError(f"sweep.space.{key}: no such key{nearest(name, known)}")


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
