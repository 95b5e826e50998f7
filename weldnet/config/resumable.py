"""What may be typed beside ckpt_path: each key takes effect, or is refused with the reason."""

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from weldnet.data.sources.source import PATHS
from weldnet.errors import InputError

Changes = Mapping[str, tuple[Any, Any]]
"""The value of a key before and after, for each key in which two configs differ."""

GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "experiment")

OF_MACHINE = (
    *(f"data.{key}" for key in (*PATHS, "cache", "cache_dir", "num_workers")),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "model.cuda_graphs"),
    *("trainer.enable_progress_bar", "trainer.log_every_n_steps"),
    *(f"callbacks.{key}" for key in ("dashboard", "learning_rate", "throughput", "epoch_lines", "history")),
    "logger",
)
"""Take effect in both commands: where a run computes and what it shows."""

OF_LENGTH = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "callbacks.*.patience")
"""Take effect in weldnet-train, and are what makes a run that has ended train further."""

OF_TRAINING = (
    *("optimizer.*", "scheduler.*"),
    *("trainer.min_epochs", "trainer.min_steps", "trainer.precision"),
    *("trainer.gradient_clip_val", "trainer.gradient_clip_algorithm"),
    *("trainer.num_sanity_val_steps", "trainer.detect_anomaly", "trainer.deterministic", "trainer.benchmark"),
)
"""Take effect in weldnet-train from the next epoch on."""

OF_TEST = ("test", "decision.*")
"""Take effect in weldnet-train after the last epoch."""

WITHOUT_EPOCHS = (*OF_TRAINING, "trainer.max_time", "callbacks.*.patience")
"""Change nothing in a run that has no epoch left."""

_OTHER_DATA = (
    "with it the data are no longer those of the run, and welds it has trained on could stand in its validation or test"
)
_OTHER_GEOMETRY = "what learned from one geometry does not work on a different one"
OF_SPLITS = (
    *("data._target_", "data.group_by", "data.group_pattern", "data.groups", "data.shares", "data.val", "data.seed"),
    *("data.num_images", "data.num_seams", "data.num_folds", "data.fold"),
)
"""Which images there are, and in which split."""

REFUSED = {
    "optimizer._target_": "the optimizer's state belongs to {before}",
    "scheduler._target_": "the schedule's state belongs to {before}",
    "callbacks.*.monitor": "the best value so far is of {before}, and values of two kinds cannot be compared",
    "callbacks.*.mode": "it follows from the monitor, by which the best value so far was chosen",
    "model": "the weights of the run were made with {before}",
    **dict.fromkeys(("data.image_size", "data.resize", "data.orient", "data.normalize"), _OTHER_GEOMETRY),
    "data.window": "what learned from one window does not work on a different one",
    **dict.fromkeys((*OF_SPLITS, "seed"), _OTHER_DATA),
    "seeds": "its epochs were trained with one seed",
    "evaluation": "the checkpoint carries it already; type it in weldnet-test",
}
"""Why not. All else is refused, too: the epochs of one run are trained alike."""

OF_RECIPE = ("seed", "data", "model", "optimizer", "scheduler", "trainer.max_epochs", "trainer.precision")
"""What distinguishes runs."""

OWN_SCHEDULE = "weldnet.model.optimizers.warmup_cosine"


class Alike(NamedTuple):
    """Trainings that are alike: the name of one, of all together, and the one key of their own that may be typed."""

    member: str
    what: str
    own: str

    def refuse(self, key: str) -> InputError:
        """The error for a key that would make them differ."""
        return InputError(
            f"{key} would make the {self.member}s differ, and they are trained alike; leave it out, or start a new "
            f"{self.what}. Beside ckpt_path there may be {', '.join((self.own, *OF_MACHINE))}"
        )


OF_FOLDS = Alike("fold", "cross-validation", "data.fold")
OF_SEEDS = Alike("seed", "run of several seeds", "seeds")


def check_words(words: list[str], alike: Alike | None = None) -> None:
    """Refuses a whole group, or `output_dir`, that was typed beside ckpt_path of one run, or of several alike."""
    typed = {word.lstrip("+~").partition("=")[0] for word in words}
    if "output_dir" in typed:
        raise InputError("ckpt_path resumes inside that run's own folder; leave output_dir out")
    for group in filter(typed.__contains__, GROUPS):
        if alike:
            raise alike.refuse(group)
        raise InputError(
            f"ckpt_path resumes with the run's own {group}; leave {group}= out, or change single keys, such as "
            "trainer.max_epochs=40"
        )


def find_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """The keys in which two plain configs differ; a missing key is null."""
    old, new = _flatten(before), _flatten(after)
    keys = [key for key in dict.fromkeys([*old, *new]) if key not in ("ckpt_path", "output_dir")]
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def check_changes(changes: Changes, saved: Mapping[str, Any], alike: Alike | None = None) -> None:
    """Refuses a change of the own config of one run, or of several alike, that would not take effect."""
    for key, (before, after) in changes.items():
        if _is_among(key, OF_MACHINE):
            continue
        if alike:
            raise alike.refuse(key)
        if reason := _why_refused(key, before, after, saved):
            raise InputError(
                f"{key}={_show(after)} is refused on resume: {reason}. It is {_show(before)} in the run; leave it out, "
                "or start a new run without ckpt_path"
            )


def find_among(keys: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    """Those of some keys that one of the patterns stands for."""
    return [key for key in keys if _is_among(key, patterns)]


def list_settings(cfg: DictConfig) -> dict[str, str | int | float | bool]:
    """The settings that distinguish runs, as `group.key` of plain values, without those of a machine."""
    plain: Any = OmegaConf.to_container(cfg)
    flat = {key: value for key, value in _flatten(plain).items() if isinstance(value, (str, int, float, bool))}
    for group in ("optimizer", "scheduler"):
        if target := flat.get(f"{group}._target_"):
            flat[group] = str(target).rpartition(".")[2]
    left_out = (*OF_MACHINE, "*._target_", "data.allow_leak")
    return {key: flat[key] for key in flat if _is_among(key, OF_RECIPE) and not _is_among(key, left_out)}


def _why_refused(key: str, before: Any, after: Any, saved: Mapping[str, Any]) -> str | None:
    for pattern, reason in REFUSED.items():
        if _is_among(key, [pattern]):
            return reason.format(before=_show(before))
    if not _is_among(key, (*OF_LENGTH, *OF_TRAINING, *OF_TEST)):
        return "the epochs of one run are trained alike"
    schedule = (saved.get("scheduler") or {}).get("_target_")
    is_planned = key.startswith(("optimizer.", "scheduler.")) or key in ("trainer.max_epochs", "trainer.max_steps")
    if is_planned and schedule not in (None, OWN_SCHEDULE):
        return f"the schedule {schedule} restores its own plan, and would undo it"
    if key.startswith("scheduler.") and schedule is None:
        return "the run's learning rate is constant"
    values = after if isinstance(after, list) else [after]
    if key.startswith("optimizer.") and not all(type(value) in (int, float) for value in values):
        return "only numbers can be changed in an optimizer whose state is restored"
    if key == "optimizer.momentum" and not before:
        return "the run has no momentum to build on"
    return None


def _is_among(key: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns stands for a key; each stands for the keys below it, too."""
    return any(fnmatchcase(key, pattern) or fnmatchcase(key, f"{pattern}.*") for pattern in patterns)


def _show(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _flatten(node: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{above}{name}"
        flat |= _flatten(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return flat
