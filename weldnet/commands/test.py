"""weldnet-test: what a checkpoint is worth on images; two checkpoints on the same images."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from weldnet.config.hydra_app import command
from weldnet.config.own_data import set_up_data
from weldnet.config.runs import make_folder, name_folder, show
from weldnet.errors import InputError, check_choice

if TYPE_CHECKING:
    from weldnet.data.datamodule import WeldDataModule
    from weldnet.evaluation.judge import Judge
    from weldnet.inference.checkpoint import Checkpoint
    from weldnet.inference.evaluation_report import EvaluationReport

    Tested = tuple[Checkpoint, WeldDataModule, EvaluationReport, EvaluationReport | None]

log = logging.getLogger(__name__)

SPLIT_CHOICES = ("train", "val", "test", "all")


def run(cfg: DictConfig) -> None:
    """Tests a checkpoint from a composed config, or compares two."""
    from weldnet.console import print_table
    from weldnet.hardware import choose_device
    from weldnet.inference.checkpoint import find_checkpoint, load_checkpoint

    folder = name_folder("test", cfg.output_dir)
    if cfg.split is not None:
        check_choice("split", cfg.split, SPLIT_CHOICES)
    choose_device(cfg.device)
    named = split_paths(cfg.ckpt_path)
    checkpoints = [load_checkpoint(find_checkpoint(path, Path("runs", "train"))) for path in named]
    if len(checkpoints) == 1:
        tested = _evaluate(cfg, checkpoints[0])
        written = _write(tested, folder, cfg.device)
        print_table(tested[2].table())
        for sentence in written["summary"]:
            print(sentence)
        print(f"the page:   {show(folder / 'report.html')}")
        print(f"metrics:    {show(folder / 'metrics.json')}")
        print(f"one by one: {show(folder / 'predictions.csv')}")
    else:
        _compare(cfg, checkpoints, folder)


def split_paths(text: str) -> list[str]:
    """`[A,B]` as two paths; anything else is one.

    Raises:
        InputError: there are more than two, or one is empty.
    """
    if not (text.startswith("[") and text.endswith("]")) or Path(text).exists():
        return [text]
    paths = [path.strip() for path in text[1:-1].split(",")]
    if len(paths) > 2 or not all(paths):
        raise InputError(f"ckpt_path={text}: a checkpoint, or two to compare: ckpt_path=[A,B]")
    return paths


def _evaluate(cfg: DictConfig, checkpoint: "Checkpoint") -> "Tested":
    """Tests one checkpoint; nothing is written yet."""
    from weldnet.inference.evaluate import evaluate

    why = "their splits differ, and welds of the training could stand in the test. Type data=folder data.root=DIR"
    data = set_up_data(cfg, checkpoint, why)
    judge, split = _judge(cfg, checkpoint), cfg.split or "test"
    report = evaluate(checkpoint, data, split, cfg.device, judge)
    if cfg.evaluation.vocabulary is not None:
        from weldnet.evaluation.vocabulary import describe_classes, read_vocabulary

        vocabulary = read_vocabulary(cfg.evaluation.vocabulary)
        report.facts["vocabulary"] = describe_classes(report.classes, vocabulary)
    known = data.unsplit == "split" and split == "test" and "val" in data.splits()
    validation = evaluate(checkpoint, data, "val", cfg.device, judge) if known else None
    return checkpoint, data, report, validation


def _write(tested: "Tested", folder: Path, device: str) -> dict[str, Any]:
    """Writes all files of a test; returns the keys of `report.json`."""
    from weldnet.data.sources.manifest import write_unreadable
    from weldnet.report.writer import save_evaluation, write_report

    checkpoint, data, report, validation = tested
    make_folder(folder)
    save_evaluation(report, folder)
    write_unreadable(data.unreadable, folder)
    if skipped := data.found.describe_skipped():
        print(skipped)
    for warning in data.warnings:
        log.warning(warning)
    return write_report(checkpoint, data, report, folder, validation=validation, device=device)[0]


def _compare(cfg: DictConfig, checkpoints: "list[Checkpoint]", folder: Path) -> None:
    from weldnet.console import print_table
    from weldnet.files import write_json
    from weldnet.report.writer import compare_reports, draw_differences

    if checkpoints[0].record.classes != checkpoints[1].record.classes:
        raise InputError("ckpt_path=[A,B]: the two have other classes, so there is nothing to compare")
    tested = [_evaluate(cfg, checkpoint) for checkpoint in checkpoints]
    comparison = compare_reports(tested[0][2], tested[1][2])
    for each, name in zip(tested, ("a", "b"), strict=True):
        _write(each, folder / name, cfg.device)
        print(show(each[0].path))
        print_table(each[2].table())
    write_json(folder / "comparison.json", comparison)
    print_table(draw_differences(comparison))
    print(f"all of it:  {show(folder / 'comparison.json')}; the pages: {show(folder / 'a')}, {show(folder / 'b')}")


def _judge(cfg: DictConfig, checkpoint: "Checkpoint") -> "Judge | None":
    """The checkpoint's judge with the typed targets; the thresholds are chosen anew on its calibration images."""
    from weldnet.config.build import check_decision
    from weldnet.inference.checkpoint import judge_of

    decision = check_decision(cfg.decision, own=True)
    targets = {name: value for name, value in decision.items() if value is not None}
    judge, good = judge_of(checkpoint), cfg.evaluation.good_classes
    if good is None and not targets:
        return judge
    if judge is None:
        raise InputError(
            f"{checkpoint.path} is not calibrated, so there is nothing to choose thresholds from; name the run, or the "
            "checkpoint that it keeps"
        )
    own = {name: getattr(judge.point, name) for name in decision}
    return judge.choose(judge.good_classes if good is None else list(good), **(own | targets))


main = command("test", run)
