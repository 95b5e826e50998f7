"""Checks the callbacks of a training config, adds the arguments that follow from their monitors, and builds them."""

import inspect
from typing import Any

from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging, WeightAveraging
from omegaconf import DictConfig

from weldnet.config.targets import find_target, instantiate
from weldnet.errors import InputError
from weldnet.training.monitors import check_monitor, find_mode

WITHIN_EPOCH = ("every_n_train_steps", "train_time_interval", "save_on_exception")
FOR_SOME_EPOCHS = ("monitor", "save_weights_only", "every_n_epochs", "save_on_train_epoch_end")
KEPT = {
    "best": ("the weights that were measured", WITHIN_EPOCH),
    "last": ("all of the last epoch, to resume from", WITHIN_EPOCH + FOR_SOME_EPOCHS),
}
"""What `best.ckpt` and `last.ckpt` hold, and the arguments of their callbacks that would change that."""

AUTO = "auto"
"""The monitor of `callbacks.best` that stands for the one in `BY_VALIDATION`."""

BY_VALIDATION = {
    "unseen": ("val/balanced_accuracy_by_group", "validation holds welds that training has not seen"),
    "per_image": ("val/balanced_accuracy", "validation holds images that each count as a weld of their own"),
    "known": (
        None,
        "validation holds welds that training has seen, and would choose the epoch that remembers them best",
    ),
    "unknown": (None, "it is unknown whether validation holds welds that training has not seen"),
}
"""What `auto` stands for, by the `validation_groups` of the data: the monitor (None keeps the last epoch), and why."""

HARMLESS = {"every_n_epochs": (None, 1), "save_on_train_epoch_end": (True,)}
"""The values of an argument in `KEPT` that change nothing; null, false and 0 for an argument that is not here."""


def check_callbacks(cfg: DictConfig) -> None:
    """Checks the monitors, the checkpoint files and the averages of a training config's callbacks."""
    home = f"{cfg.output_dir}/checkpoints"
    written: dict[str, str] = {}
    averaging = []
    for key, node in _list_nodes(cfg):
        callback_class = _find_class(node)
        if issubclass(callback_class, ModelCheckpoint):
            _check_checkpoint(key, node, home, written)
        if node.get("monitor") == AUTO:
            _check_auto(key, node, cfg)
        else:
            _check_monitor(key, node)
        if issubclass(callback_class, StochasticWeightAveraging):
            raise InputError(
                f"{key}: StochasticWeightAveraging validates other weights than it keeps; take callbacks=averaging, or "
                f"{key}._target_=lightning.pytorch.callbacks.EMAWeightAveraging"
            )
        if issubclass(callback_class, WeightAveraging):
            averaging.append(key)
    if not {f"{home}/{name}" for name in KEPT} & set(written):
        raise InputError("neither callbacks.best nor callbacks.last keeps a checkpoint; leave one of them as it is")
    if len(averaging) > 1:
        raise InputError(f"{' and '.join(averaging)} both average the weights; leave one of them out")


def build_callbacks(cfg: DictConfig) -> list[Callback]:
    """The callbacks, each with the arguments that follow from its monitor; without one whose monitor is `auto`."""
    nodes = [(key, node) for key, node in _list_nodes(cfg) if node.get("monitor") != AUTO]
    return [instantiate(key, node, **_derive(node)) for key, node in nodes]


def resolve_monitor(cfg: DictConfig, validation_groups: str) -> bool:
    """Replaces the monitor `auto` by what it stands for; returns whether there was one."""
    best = cfg.callbacks.get("best")
    if not best or best.get("monitor") != AUTO:
        return False
    best.monitor, _ = BY_VALIDATION[validation_groups]
    if best.monitor is None:
        cfg.callbacks.best = None
    return True


def describe_selection(cfg: DictConfig, validation_groups: str) -> str:
    """A sentence on which epoch a run keeps, and why."""
    best = cfg.callbacks.get("best")
    monitor, (default, reason) = best.monitor if best else None, BY_VALIDATION[validation_groups]
    kept = "the last epoch"
    if monitor:
        kept = f"the epoch with the {'lowest' if find_mode(monitor) == 'min' else 'highest'} {monitor}"
    is_average = any(issubclass(_find_class(node), WeightAveraging) for _, node in _list_nodes(cfg))
    why = f"because {reason}" if is_average and monitor == default else "as its config asks"
    return f"the run kept {kept}{', a moving average of the weights' if is_average else ''}, {why}"


def _list_nodes(cfg: DictConfig) -> list[tuple[str, DictConfig]]:
    return [(f"callbacks.{name}", node) for name, node in cfg.callbacks.items() if node]


def _find_class(node: DictConfig) -> type:
    target = find_target("callbacks", node)
    return target if inspect.isclass(target) else object


def _check_auto(key: str, node: DictConfig, cfg: DictConfig) -> None:
    if key != "callbacks.best":
        raise InputError(f"{key}.monitor={AUTO}: only callbacks.best.monitor takes {AUTO}; name a figure")
    if not cfg.callbacks.get("last"):
        raise InputError(
            f"{key}.monitor={AUTO} may keep the last epoch, which callbacks.last writes; leave it as it is"
        )
    for name in ("mode", "save_on_train_epoch_end"):
        if node.get(name) is not None:
            raise InputError(f"{key}.{name} follows from the monitor; leave it out")


def _check_monitor(key: str, node: DictConfig) -> None:
    if node.get("monitor") is None:
        return
    check_monitor(f"{key}.monitor", node.monitor)
    for name, value in _derive(node).items():
        if node.get(name) not in (None, value):
            raise InputError(
                f"{key}.{name}={node[name]} contradicts {key}.monitor={node.monitor}, with which it is {value}; leave "
                f"{key}.{name} out"
            )


def _derive(node: DictConfig) -> dict[str, Any]:
    """The arguments of a callback that follow from its monitor."""
    monitor, parameters = node.get("monitor"), inspect.signature(_find_class(node)).parameters
    if monitor is None or "monitor" not in parameters:
        return {}
    # A callback saves right after validation: at the end of the epoch, an average may hold weights without a figure.
    derived = {"mode": find_mode(monitor), "save_on_train_epoch_end": monitor.startswith("train/")}
    return {name: value for name, value in derived.items() if name in parameters}


def _check_checkpoint(key: str, node: DictConfig, home: str, written: dict[str, str]) -> None:
    """Checks that a callback overwrites no file of `written`, and that those in `KEPT` hold what they have to hold."""
    name, number, filename = key.removeprefix("callbacks."), node.get("save_top_k", 1), node.get("filename")
    file = f"{node.get('dirpath') or home}/{filename}"
    if name in KEPT and (node.get("dirpath") is None or file != f"{home}/{name}"):
        raise InputError(
            f"{key} writes checkpoints/{name}.ckpt, which is needed to test or resume a run; leave {key}.dirpath and "
            f"{key}.filename as they are, and write other files by a further ModelCheckpoint"
        )
    if file in written:
        raise InputError(f"{written[file]} and {key} write the same file; give {key}.filename a different name")
    written[file] = key
    if number == 0:
        raise InputError(f"{key}.save_top_k=0 keeps nothing; to do without it, type {key}=null")
    if number != 1 and filename is not None and "{" not in filename:
        raise InputError(
            f"{key}.save_top_k={number}: each file would be {filename}.ckpt and overwrite the one before; leave it "
            "out, or write further files by a further ModelCheckpoint with {epoch} in its filename"
        )
    if node.get("save_last"):
        raise InputError(f"{key}.save_last: callbacks.last writes last.ckpt; leave it out")
    kept_name = file.removeprefix(f"{home}/")
    if kept_name == "best" and node.get("monitor") is None:
        raise InputError(
            f"{key}.monitor=null: best.ckpt is chosen by a figure; to keep the last epoch, type callbacks=keep_last"
        )
    content, arguments = KEPT.get(kept_name, ("", ()))
    for argument in arguments:
        if node.get(argument) not in HARMLESS.get(argument, (None, 0)):
            raise InputError(
                f"{key}.{argument}={node.get(argument)}: {kept_name}.ckpt holds {content}; leave {key}.{argument} out"
            )
