"""What the config and the states inside a checkpoint may make: an exact rule for each node, paths in the run folder."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weldnet.errors import InputError

SPECIAL = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_", "_mode_")
"""The keys that Hydra acts on."""

PATHS = ("dirpath", "save_dir", "default_root_dir", "exclude_batches_path", "model_registry")
"""Those arguments of Lightning's parts that are paths of their own, or an address to upload to; names and versions are
joined to them."""

ADDRESS = "tracking_uri"
"""The argument of a logger that names a server."""


@dataclass(frozen=True)
class Rule:
    """What a node may make: exactly these names, or a class with a base class that is defined below a package."""

    names: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()

    def allows(self, name: Any) -> bool:
        """Whether the node may have this `_target_`; nothing but the packages is imported to find out."""
        if name in self.names:
            return True
        found = _find_class(name, self.packages) if isinstance(name, str) else None
        return found is not None and issubclass(found, tuple(map(_load, self.bases)))


RULES = {
    # None for data.augmentation: a transform of one's own is typed again.
    "data": Rule(packages=("weldnet.data.sources",), bases=("weldnet.data.sources.source.Source",)),
    "optimizer": Rule(packages=("torch.optim",), bases=("torch.optim.Optimizer",)),
    "scheduler": Rule(
        ("weldnet.model.optimizers.warmup_cosine",),
        ("torch.optim.lr_scheduler",),
        ("torch.optim.lr_scheduler.LRScheduler",),
    ),
    "trainer": Rule(("lightning.Trainer", "lightning.pytorch.Trainer")),
    "callbacks.*": Rule((), ("lightning.pytorch.callbacks", "weldnet"), ("lightning.pytorch.Callback",)),
    # The others send what they log to an address that the file names.
    "logger.*": Rule(
        ("weldnet.training.loggers.MLflowLogger",),
        ("lightning.pytorch.loggers",),
        ("lightning.pytorch.loggers.TensorBoardLogger", "lightning.pytorch.loggers.CSVLogger"),
    ),
}

NODES = {pattern.removesuffix(".*") for pattern in RULES} - {"data"}
"""Where a path must lie inside the run folder; images lie where they like."""

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_LEAVES = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\~]|^data:|://|::")
_PLACEHOLDER = re.compile(r"\{[^{}:!\[\]]*(:0?\d*(\.\d+)?[defg]?)?\}")
"""Of a file's name, as in `{epoch:02d}`; another fill character could be a slash."""


def _load(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    loaded: type = getattr(importlib.import_module(module), attribute)
    return loaded


def _find_class(name: str, packages: tuple[str, ...]) -> type | None:
    """The class of that name, if both the name and the class lie below one of the packages; else None.

    A name that passes through an attribute, as `package.module.os.system` does, is not found: what stands before the
    last dot must be a module of the package, and no attribute of it is looked up but the last.
    """
    head, _, attribute = name.rpartition(".")
    package = next((each for each in packages if f"{head}.".startswith(f"{each}.")), None)
    if package is None or not _NAME.fullmatch(name):
        return None
    try:
        module = importlib.import_module(head)
    except ImportError:
        return None
    found = vars(module).get(attribute)
    return found if isinstance(found, type) and f"{found.__module__}.".startswith(f"{package}.") else None


def check_trusted(saved: dict[str, Any], folder: Path, typed: list[str]) -> None:
    """Checks a config that was found in a checkpoint or a run folder before anything is made of it.

    Args:
        saved: the config as plain dicts and lists.
        folder: the run folder.
        typed: the overrides that were typed this time; what stands there word for word, the user trusts.

    Raises:
        InputError: it names what could run code, or a path outside of the run folder.
    """
    trusted = {override.lstrip("+") for override in typed}
    for keys, value in _walk((), saved):
        key, node = ".".join(keys), keys[:-1]
        if f"{key}={value}" in trusted:
            continue
        if keys[-1] in SPECIAL:
            rule = RULES.get(".".join([*node[:1], *("*" for _ in node[1:])]))
            if keys[-1] != "_target_" or rule is None or not rule.allows(value):
                raise InputError(
                    f"the run's own config has {key}={value}, which is none of weldnet's, torch's or Lightning's "
                    f"parts for this key; if you trust it, type it again: +{key}={value}"
                )
        elif keys[0] in NODES and isinstance(value, str) and _is_outside(keys[-1], value, folder):
            raise InputError(
                f"the run's own config has {key}={value}, which could lead out of the run folder {folder}; if you "
                f"trust it, type it again: +{key}={value}"
            )


def check_states(states: Any, folder: Path) -> None:
    """Checks the states of callbacks inside a checkpoint: Lightning removes files that they name.

    Raises:
        InputError: a path is not inside the run folder.
    """
    try:
        values = [value for _, value in _walk((), states, with_names=True)]
    except RecursionError as error:
        raise InputError("the states of callbacks in last.ckpt are damaged: they hold themselves") from error
    for value in values:
        if isinstance(value, str) and leaves(value, folder):
            raise InputError(f"the state of a callback in last.ckpt names {value}, which is not inside {folder}")


def check_links(folder: Path) -> None:
    """Raises:
    InputError: a link in a run folder leads out of it; what is written there would land elsewhere.
    """
    for path in folder.rglob("*"):
        if path.is_symlink() and not _is_inside(path, folder):
            raise InputError(f"{path} is a link that leads out of the run folder; put the file or folder itself there")


def leaves(text: str, folder: Path, *, is_path: bool = False) -> bool:
    """Whether a text, as a path or as part of one, could lead out of a folder.

    Args:
        is_path: it is a path of its own; else a name, which is joined to one.
    """
    # Lightning's TensorBoard logger puts variables of the environment into its paths.
    if "$" in text.removeprefix(str(folder)):
        return True
    if not is_path and not _LEAVES.search(text):
        return False
    return not (Path(text).is_absolute() and _is_inside(Path(text), folder))


def _is_outside(name: str, value: str, folder: Path) -> bool:
    if name == ADDRESS:
        return True
    if name in PATHS:
        return leaves(value, folder, is_path=True)
    return "{" in _PLACEHOLDER.sub("", value) or leaves(value, folder)


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    # A null byte, or links in a circle.
    except (ValueError, OSError, RuntimeError):
        return False


def _walk(keys: tuple[str, ...], value: Any, *, with_names: bool = False) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value in a nest of dicts and lists that is neither, with the keys that lead there."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if pairs is None:
        yield keys, value
        return
    for name, child in pairs:
        if name in SPECIAL:
            yield (*keys, str(name)), child
            continue
        if with_names and isinstance(name, str):
            yield keys, name
        yield from _walk((*keys, str(name)), child, with_names=with_names)
