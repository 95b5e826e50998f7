"""The callbacks of a training config: checked, completed by what follows from their monitors, and built."""

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import hydra.utils
from omegaconf import DictConfig

from weldnet.config.targets import check_target, instantiate
from weldnet.errors import InputError

if TYPE_CHECKING:
    from lightning import Callback

BEST = {
    "every_n_train_steps": (None, 0),
    "train_time_interval": (None,),
    "save_on_exception": (None, False),
}
"""What may be said of when `best.ckpt` is written: it holds the weights that were measured."""

LAST = {
    "monitor": (None,),
    "save_weights_only": (None, False),
    "every_n_epochs": (None, 1),
    "every_n_train_steps": (None, 0),
    "train_time_interval": (None,),
    "save_on_exception": (None, False),
    "save_on_train_epoch_end": (True,),
}
"""What may be said of `last.ckpt`: it holds all of the last whole epoch, from which a run is resumed."""


def check_callbacks(cfg: DictConfig) -> None:
    """Checks the callbacks of a training config before any data is read.

    Raises:
        InputError: a node is wrong in itself, see `check_target`; its monitor is not logged, or better in the other
            direction; or the checkpoints would not be those that a run is tested and resumed by.
    """
    from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging

    from weldnet.training.monitors import check_monitor

    for key, node in _nodes(cfg):
        check_target(key, node)
    _check_files(cfg)
    averaging = []
    for key, node in _nodes(cfg):
        if (monitor := node.get("monitor")) is not None:
            check_monitor(f"{key}.monitor", monitor)
            for name, value in _derive(node).items():
                if node.get(name) not in (None, value):
                    raise InputError(
                        f"{key}.{name}={node[name]} contradicts {key}.monitor={monitor}, with which it is {value}; "
                        f"leave {key}.{name} out"
                    )
        kind = _find_class(node)
        if issubclass(kind, StochasticWeightAveraging):
            raise InputError(
                f"{key}: StochasticWeightAveraging validates other weights than it keeps; take callbacks=averaging, or "
                f"{key}._target_=lightning.pytorch.callbacks.EMAWeightAveraging"
            )
        if issubclass(kind, WeightAveraging):
            averaging.append(key)
    if len(averaging) > 1:
        raise InputError(f"{' and '.join(averaging)} both average the weights; leave one of them out")


def build_callbacks(cfg: DictConfig) -> "list[Callback]":
    """The callbacks, each with what follows from its monitor."""
    return [instantiate(key, node, **_derive(node)) for key, node in _nodes(cfg)]


def _nodes(cfg: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    return ((f"callbacks.{name}", node) for name, node in cfg.callbacks.items() if node)


def _find_class(node: DictConfig) -> type:
    target = hydra.utils.get_object(str(node._target_))
    return target if inspect.isclass(target) else object


def _derive(node: DictConfig) -> dict[str, Any]:
    """The arguments of a callback that follow from its monitor."""
    from weldnet.training.monitors import find_mode

    monitor, known = node.get("monitor"), inspect.signature(_find_class(node)).parameters
    if monitor is None or "monitor" not in known:
        return {}
    # Right after the validation: at the epoch's end an average may hold weights that nobody measured.
    derived = {"mode": find_mode(monitor), "save_on_train_epoch_end": monitor.startswith("train/")}
    return {name: value for name, value in derived.items() if name in known}


def _check_files(cfg: DictConfig) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    home = f"{cfg.output_dir}/checkpoints"
    written: dict[str, str] = {}
    for key, node in _nodes(cfg):
        if not issubclass(_find_class(node), ModelCheckpoint):
            continue
        file = f"{node.get('dirpath') or home}/{node.get('filename')}"
        name = key.removeprefix("callbacks.")
        if name in ("best", "last") and (node.get("dirpath") is None or file != f"{home}/{name}"):
            raise InputError(
                f"{key} writes checkpoints/{name}.ckpt, by which a run is tested and resumed; leave {key}.dirpath and "
                f"{key}.filename as they are, and give other files a ModelCheckpoint of their own"
            )
        if file in written:
            raise InputError(f"{written[file]} and {key} write the same file; give {key}.filename another name")
        written[file] = key
        _check_saving(key, node)
        for kept, allowed in (("best", BEST), ("last", LAST)):
            if file == f"{home}/{kept}":
                _check_kept(key, node, kept, allowed)
    if not {f"{home}/best", f"{home}/last"} & set(written):
        raise InputError("neither callbacks.best nor callbacks.last keeps a checkpoint; leave one of them as it is")


def _check_saving(key: str, node: DictConfig) -> None:
    """Checks that each file that is to be kept has a name of its own."""
    number, filename = node.get("save_top_k", 1), node.get("filename")
    if number == 0:
        raise InputError(f"{key}.save_top_k=0 keeps nothing; to do without it, type {key}=null")
    if number != 1 and filename is not None and "{" not in filename:
        raise InputError(
            f"{key}.save_top_k={number}: each of them would be {filename}.ckpt, and overwrite the one before; leave it "
            "out, or give further files a ModelCheckpoint of their own, its filename with {epoch} in it"
        )
    if node.get("save_last"):
        raise InputError(f"{key}.save_last: callbacks.last writes last.ckpt; leave it out")


def _check_kept(key: str, node: DictConfig, kept: str, allowed: dict[str, tuple[Any, ...]]) -> None:
    if kept == "best" and node.get("monitor") is None:
        raise InputError(
            f"{key}.monitor=null: best.ckpt is chosen by a figure; to keep the last epoch, type callbacks=keep_last"
        )
    holds = "the weights that were measured" if kept == "best" else "all of the last epoch, to resume from"
    for name, values in allowed.items():
        if node.get(name) not in values:
            raise InputError(f"{key}.{name}={node.get(name)}: {kept}.ckpt holds {holds}; leave {key}.{name} out")
