"""The checkpoint that a command works from, and the data that trained it, built again from its own config."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from weldnet.config.hydra_app import typed_keys, warn_of_drawing, warn_of_no_effect
from weldnet.config.literal import SOURCES, make_literal, parse_config, to_plain
from weldnet.config.runs import make_absolute, show
from weldnet.config.schema import SeedKeys
from weldnet.config.trusted import check_trusted
from weldnet.data.settings import BatchSettings, Framing
from weldnet.errors import InputError
from weldnet.inference.finished_runs import find_checkpoint, run_of

if TYPE_CHECKING:
    from weldnet.data.datamodule import WeldDataModule
    from weldnet.inference.checkpoint import Checkpoint


def find_origin(ckpt_path: str, why: str) -> Path:
    """The file of a checkpoint, a run folder, `best` or `last`; an export is refused, for the reason `why`."""
    folder = Path(ckpt_path).expanduser().absolute()
    if (folder / "model.json").exists():
        from weldnet.inference.exported import read_export_card

        origin = read_export_card(folder)[0].checkpoint
        raise InputError(
            f"ckpt_path={ckpt_path} is an export{why}; give the checkpoint that it comes from, {origin.name} with "
            f"the SHA-256 {origin.digest}"
        )
    return find_checkpoint(ckpt_path)


def warn_of_unused(data: DictConfig) -> None:
    """Names the typed keys of data that change nothing, whichever checkpoint it is."""
    of_training = [f"data.{each.name}" for each in fields(BatchSettings) if each.name != "batch_size"]
    warn_of_no_effect(of_training, "a checkpoint, which is trained already")
    if "data" in typed_keys():
        unused = ["data.num_folds", "data.fold"]
        if data._target_ != SOURCES["synthetic"]:
            unused += ["data.shares", "data.val", *(["data.seed"] if data._target_ in SOURCES.values() else [])]
        warn_of_no_effect(unused, "images to test, which are not split by it")


def set_up_data(cfg: DictConfig, checkpoint: "Checkpoint", why: str, *, only_own: bool = False) -> "WeldDataModule":
    """The checkpoint's own data, or those of `data=` unless `only_own`, set up, in its geometry and with its classes.

    Args:
        why: its own data must be as they were, and what else to type.
    """
    from hydra.core.hydra_config import HydraConfig

    from weldnet.config.build import build_data

    typed, keys = HydraConfig.get().overrides.task, typed_keys()
    for key in ("data.image_size", *(f"data.{each.name}" for each in fields(Framing))):
        if any(each.startswith(key) for each in keys):
            raise InputError(f"{key} is the checkpoint's, and stays what it is")
    saved, others = _choose_data(cfg, checkpoint, keys, typed), "data" in keys
    geometry = checkpoint.geometry
    saved.data.image_size = {"height": geometry.height, "width": geometry.width}
    for each in fields(Framing):
        saved.data[each.name] = getattr(geometry, each.name)
    is_unsplit = others and saved.data._target_ != SOURCES["synthetic"]
    if not others:
        warn_of_drawing(saved.data)
    unsplit = "test" if is_unsplit else "split"
    data = build_data(saved.data, saved.get("seed", SeedKeys.seed), classes=checkpoint.card.classes, unsplit=unsplit)
    data.setup()
    if (only_own or not is_unsplit) and data.split_digest != checkpoint.card.split_digest:
        split_list = run_of(checkpoint.path) / "split.csv"
        hint = (
            f", or the run's own list, data=manifest data.manifest={show(split_list)}" if split_list.is_file() else ""
        )
        raise InputError(f"these are not the data that trained the checkpoint: {why}{hint}")
    return data


def _choose_data(cfg: DictConfig, checkpoint: "Checkpoint", keys: list[str], typed: list[str]) -> Any:
    """The checkpoint's config with the data to take: its own, with what was typed, or those of `data=`."""
    make_absolute(cfg.data)
    now = OmegaConf.create(make_literal(to_plain(cfg)))
    saved: Any = parse_config(checkpoint.card.config, show(checkpoint.path))
    if "data" in keys:
        seed = OmegaConf.select(saved, "data.seed")
        saved.data = now.data
        saved.data.seed = seed if now.data.seed is None else now.data.seed
        # The others were not split into folds.
        saved.data.num_folds = saved.data.fold = None
    elif "data" not in saved:
        raise InputError(f"{show(checkpoint.path)} was not trained by a command; type data=folder data.root=DIR")
    else:
        check_trusted({"data": to_plain(saved.data) | {"augmentation": None}}, checkpoint.path, typed)
        for key in (each for each in keys if each.startswith("data.")):
            OmegaConf.update(saved, key, OmegaConf.select(now, key), merge=False)
        # Nothing is trained on them.
        saved.data.augmentation = now.data.augmentation
    return saved
