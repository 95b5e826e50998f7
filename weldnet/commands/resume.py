"""Going on with a stopped run: its config, what may be changed, and what may not."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from weldnet.commands.runs import apply_overrides, show
from weldnet.errors import InputError

if TYPE_CHECKING:
    from weldnet.checkpoint import Record
    from weldnet.data.datamodule import WeldDataModule

GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "experiment")

TRUSTED = (
    "torch.optim.",
    "lightning.Trainer",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.loggers.",
    "weldnet.dashboard.",
    "weldnet.model.optimizers.",
    "weldnet.progress.",
)
"""What the config inside a checkpoint may name; anything else could run code of whoever wrote the file."""


@dataclass(frozen=True)
class StoppedRun:
    """A run to go on with: its config with what was typed now, its folder, its last checkpoint and the record in it."""

    cfg: DictConfig
    folder: Path
    last: Path
    record: "Record"

    def check_data(self, data: "WeldDataModule") -> None:
        """Raises:
        InputError: the data, their split or their geometry are no longer those of the run.
        """
        from weldnet.data.images import Geometry

        if data.geometry != Geometry(**self.record.geometry):
            raise InputError(
                "data.image_size, resize, orient and window are the run's own; what learned from one geometry "
                "does not go on in another. Leave them out, or start a new run without ckpt_path"
            )
        if data.split_digest != self.record.split_digest or data.classes != self.record.classes:
            raise InputError(
                "the data are no longer those of the run: their splits differ, and welds it has trained on could stand "
                "in its test. Bring the data back as they were, or start a new run without ckpt_path"
            )


def find_stopped_run(cfg: DictConfig, overrides: list[str]) -> StoppedRun:
    """The run that `cfg.ckpt_path` means.

    Args:
        cfg: composed from what was typed.
        overrides: what was typed.

    Raises:
        InputError: there is no such run, it has finished or was moved, or something was typed that it may not change.
    """
    from weldnet.checkpoint import find_checkpoint, load_checkpoint
    from weldnet.testing import run_of

    if cfg.output_dir is not None:
        raise InputError("ckpt_path goes on inside that run's own folder; leave output_dir out")
    typed = [override for override in overrides if not override.startswith("ckpt_path=")]
    for group in GROUPS:
        if any(override.startswith(f"{group}=") for override in typed):
            raise InputError(
                f"ckpt_path goes on with that run's own {group}; leave {group}= out, or change single keys, such as "
                "trainer.max_epochs=40"
            )
    named = find_checkpoint(cfg.ckpt_path, Path("runs", "train"))
    # Whatever file was named is looked at, so that the message is about that one.
    load_checkpoint(named)
    folder = run_of(named)
    last = folder / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(last)
    saved = OmegaConf.create(checkpoint.record.config)
    assert isinstance(saved, DictConfig)
    check_saved(saved, folder, typed)
    merged = apply_overrides(saved, cfg, typed)
    if checkpoint.num_epochs >= (merged.trainer.max_epochs or float("inf")):
        raise InputError(
            f"{show(folder)} has finished its {checkpoint.num_epochs} epochs; to go on, give it more: "
            f"trainer.max_epochs={2 * checkpoint.num_epochs}"
        )
    return StoppedRun(merged, folder, last, checkpoint.record)


def check_saved(saved: DictConfig, folder: Path, typed: list[str]) -> None:
    """Checks a config that was found in a run folder before anything is made of it.

    Args:
        saved: the config.
        folder: where it was found.
        typed: what was typed this time.

    Raises:
        InputError: the folder was moved or copied, or the config names what could run anyone's code.
    """
    if Path(saved.output_dir).resolve() != folder.resolve():
        raise InputError(
            f"{show(folder)} was made as {saved.output_dir}; a moved or copied run can be tested, but not gone on "
            "with. Move it back, or start a new run"
        )
    for key, target in _targets("", OmegaConf.to_container(saved)):
        if not str(target).startswith(TRUSTED) and not any(o.lstrip("+") == f"{key}={target}" for o in typed):
            raise InputError(
                f"the run's own config names {target}, which is none of weldnet's, torch's or Lightning's parts; if "
                f"you trust it, type it again: +{key}={target}"
            )


def _targets(place: str, node: Any) -> Iterator[tuple[str, Any]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        key = f"{place}.{name}" if place else str(name)
        if name == "_target_":
            yield key, child
        yield from _targets(key, child)
