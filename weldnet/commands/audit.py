"""weldnet-audit: find what is wrong with a set of images before training."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from weldnet.config.hydra_app import command, warn_of_no_effect
from weldnet.config.runs import make_absolute, make_folder, name_folder, name_new_file, show, show_command
from weldnet.config.schema import CrossvalConfig, DataConfig, OutputKeys, SeedKeys
from weldnet.data.settings import BatchSettings
from weldnet.errors import InputError, count

if TYPE_CHECKING:
    import polars as pl

    from weldnet.audit.audit import Audit
    from weldnet.audit.labels import HeldOut
    from weldnet.data.sources.found import Found


@dataclass
class AuditSettings:
    """See `weldnet.commands.audit`."""

    suggest_split: str | None = None
    suggest_groups: str | None = None
    reviewed: str | None = None
    corrected: str | None = None


@dataclass
class AuditConfig(OutputKeys, SeedKeys):
    """The keys of `weldnet-audit`."""

    data: DataConfig = field(default_factory=DataConfig)
    audit: AuditSettings = field(default_factory=AuditSettings)
    crossval: str | None = None


def run(cfg: DictConfig) -> None:
    """Audits the images of a composed config; exits with code 1 where a finding is an error."""
    from rich.console import Console

    from weldnet.data.sources.selection import refuse_inside
    from weldnet.report.audit_report import print_audit, save_audit

    folder = name_folder("audit", cfg.output_dir)
    if cfg.data.root is not None:
        refuse_inside("output_dir", folder, cfg.data.root)
    files = _check_files(cfg.audit)
    found, audited = _audit(cfg, files)
    make_folder(folder)
    save_audit(audited, folder)
    print_audit(audited, Console())
    _print_advice(found, audited, folder)
    try:
        _write_all(audited, files, cfg)
    except InputError as error:
        if not audited.of("error"):
            raise
        print(f"nothing is suggested: {error}", file=sys.stderr)
    if audited.of("error"):
        sys.exit(1)


def _audit(cfg: DictConfig, files: Mapping[str, Path | None]) -> tuple["Found", "Audit"]:
    from weldnet.audit.audit import audit
    from weldnet.config.build import build_data
    from weldnet.data.splits.rules import check_shares, require_groups

    held_out = _read_held_out(cfg)
    of_batches = [f"data.{each.name}" for each in fields(BatchSettings)]
    warn_of_no_effect([*of_batches, "data.cache", "data.num_workers"], "an audit")
    make_absolute(cfg.data)
    data = build_data(cfg.data, cfg.seed)
    found = _correct(data.find(), cfg.audit)
    if files["suggest_split"] is not None:
        check_shares(data.shares)
        require_groups(found.table, "audit.suggest_split needs groups")
    audited = audit(found, data.geometry, held_out)
    return found, replace(audited, refusals=_rehearse(cfg, found, audited))


def _print_advice(found: "Found", audited: "Audit", folder: Path) -> None:
    """What was passed over, what training would say, and where all of it is written."""
    from weldnet.audit.labels import REVIEW
    from weldnet.data.sources.groups import explain_groups

    if skipped := found.describe_skipped():
        print(skipped)
    if lacks_groups := found.table["group"].null_count() > 0:
        print(explain_groups(found.table))
    for names, refusal in audited.group_refusals(is_advised=lacks_groups):
        in_spite = ", in spite of the errors above" if audited.of("error") else ""
        taken = f"{'take' if names[1:] else 'takes'} these data{in_spite}"
        print(f"{' and '.join(names)} {f'would refuse these data: {refusal}' if refusal else taken}")
    print(f"the page:  {show(folder / 'audit.html')}")
    print(f"all of it: {show(folder / 'audit.json')}")
    if (review := folder / REVIEW).is_file():
        print(
            f"the labels to review: {show(review)}; fill in its column corrected, then type the same data keys and "
            f"audit.reviewed={show(review)} audit.corrected=FILE.csv"
        )


def _rehearse(cfg: DictConfig, found: "Found", audited: "Audit") -> dict[str, InputError | None]:
    """By which weldnet-train and weldnet-crossval would refuse these data."""
    folds = CrossvalConfig.num_folds
    settings: dict[str, list[dict[str, int | None]]] = {"train": [{}]}
    if cfg.data.num_folds is None:
        settings["crossval"] = [{"num_folds": folds, "fold": fold} for fold in range(folds)]
    return {name: _find_refusal(cfg, found, audited, each) for name, each in settings.items()}


def _find_refusal(
    cfg: DictConfig, found: "Found", audited: "Audit", settings: "Sequence[Mapping[str, int | None]]"
) -> InputError | None:
    """The first error by which the data are refused under one of these settings of folds."""
    import numpy as np

    from weldnet.config.build import build_data

    pairs = np.concatenate(audited.alike)
    for each in settings:
        data = cfg.data.copy()
        data.update(each)
        try:
            build_data(data, cfg.seed).rehearse(found, audited.images, pairs)
        except InputError as error:
            return error
    return None


def _check_files(settings: DictConfig) -> dict[str, Path | None]:
    """The manifest that each key names; none is there yet, and no two are one file."""
    files = {
        key: name_new_file(f"audit.{key}", settings[key]) for key in ("suggest_split", "suggest_groups", "corrected")
    }
    named = [file.resolve() for file in files.values() if file is not None]
    if len(set(named)) < len(named):
        raise InputError(f"audit.{', audit.'.join(files)}: two of them name one file; each writes its own")
    return files


def _read_held_out(cfg: DictConfig) -> "HeldOut | None":
    if cfg.crossval is None:
        return None
    from weldnet.config.resume import find_folder
    from weldnet.training.fold_ensemble import read_held_out

    return read_held_out(find_folder(cfg.crossval, Path("runs", "crossval")))


def _correct(found: "Found", settings: DictConfig) -> "Found":
    """What was found, under the labels of a reviewed list."""
    if settings.reviewed is None:
        if settings.corrected is not None:
            raise InputError("audit.corrected writes the labels of a reviewed list; type audit.reviewed=FILE.csv, too")
        return found
    from weldnet.audit.labels import correct_labels

    table, summary = correct_labels(found.table, Path(settings.reviewed).expanduser().absolute())
    print(f"{show(Path(settings.reviewed))}: {summary}")
    return replace(found, table=table)


def _write_all(audited: "Audit", files: Mapping[str, Path | None], cfg: DictConfig) -> None:
    """Writes each manifest that a key names; a split only if weldnet-train would take it."""
    from weldnet.audit.audit import suggest_groups
    from weldnet.config.build import build_data
    from weldnet.data.splits.rules import give_val_to_train, split_by_group

    data = build_data(cfg.data, cfg.seed)
    if (manifest := files["corrected"]) is not None:
        readable = audited.images.filter(audited.images["reason"].is_null())
        _write(readable, "corrected labels", manifest, audited, cfg)
    if (manifest := files["suggest_groups"]) is not None:
        grouped = suggest_groups(audited)
        print(f"{_describe(grouped)}; photographs of different spots of one weld are in different groups")
        _write(grouped, "groups", manifest, audited, cfg)
    if (manifest := files["suggest_split"]) is not None:
        shares = give_val_to_train(data.shares) if data.rule.val == "known" else data.shares
        split = split_by_group(suggest_groups(audited), shares, data.split_seed)
        if refusal := _refuse(split, audited, cfg):
            raise InputError(f"audit.suggest_split writes nothing that weldnet-train would refuse: {refusal}")
        _write(split, "split", manifest, audited, cfg)


def _refuse(samples: "pl.DataFrame", audited: "Audit", cfg: DictConfig) -> InputError | None:
    """What weldnet-train would refuse of a manifest of these samples, all of which can be read."""
    from weldnet.data.sources.found import Found

    return _find_refusal(cfg, Found(samples), audited, [{"num_folds": None, "fold": None}])


def _write(samples: "pl.DataFrame", what: str, manifest: Path, audited: "Audit", cfg: DictConfig) -> None:
    from weldnet.data.sources.manifest import write_manifest

    write_manifest(samples, manifest)
    left_out = len(audited.images) - len(samples)
    note = f", without {count(left_out, 'file')}, unreadable or damaged" if left_out else ""
    print(f"the {what}: {show(manifest)}{note}")
    if refusal := _refuse(samples, audited, cfg):
        print(f"it cannot be trained on as it is: {refusal}")
    else:
        known = " data.val=known" if cfg.data.val == "known" else ""
        print(f"train on it by: {show_command('weldnet-train')} data=manifest data.manifest={show(manifest)}{known}")


def _describe(groups: "pl.DataFrame") -> str:
    sizes = groups["group"].value_counts()["count"]
    return f"{count(len(sizes), 'group')}, {(sizes > 1).sum():,} of several photographs"


main = command("audit", run, AuditConfig)
