"""weldnet-test: test a checkpoint on images, or compare two on the same images."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from weldnet.config.hydra_app import command, typed_keys
from weldnet.config.own_data import set_up_data, warn_of_unused
from weldnet.config.runs import make_folder, name_folder, show
from weldnet.config.schema import DataConfig, DecisionConfig, EvaluationConfig, ModelKeys
from weldnet.errors import InputError, check_choice
from weldnet.inference.finished_runs import find_checkpoint, run_of
from weldnet.inference.settings import DeviceSettings

if TYPE_CHECKING:
    from weldnet.evaluation.judge import Judge
    from weldnet.inference.checkpoint import Checkpoint

log = logging.getLogger(__name__)

SPLIT_CHOICES = ("train", "val", "test", "all")


@dataclass
class TestConfig(DeviceSettings, ModelKeys):
    """The keys of `weldnet-test`."""

    split: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)


def run(cfg: DictConfig) -> None:
    """Tests a checkpoint from a composed config, or compares two."""
    folder = name_folder("test", cfg.output_dir)
    if cfg.split is not None:
        check_choice("split", cfg.split, SPLIT_CHOICES)
    # Before torch is imported, which takes seconds.
    files = list(map(find_checkpoint, split_paths(cfg.ckpt_path)))

    from weldnet.console import print_table
    from weldnet.hardware.devices import choose_device
    from weldnet.inference.checkpoint import load_checkpoint
    from weldnet.report.headline import list_lines

    choose_device(cfg.device)
    checkpoints = list(map(load_checkpoint, files))
    if len({tuple(checkpoint.card.classes) for checkpoint in checkpoints}) > 1:
        raise InputError("ckpt_path=[A,B]: the two have different classes, so there is nothing to compare")
    warn_of_unused(cfg.data)
    tests = [Test(cfg, checkpoint) for checkpoint in checkpoints]
    if len(tests) > 1:
        _compare(tests, folder)
        return
    written = tests[0].write(folder)
    print_table(tests[0].report.table())
    print("\n".join(list_lines(written)))
    print(f"the page:   {show(folder / 'report.html')}")
    print(f"metrics:    {show(folder / 'metrics.json')}")
    print(f"one by one: {show(folder / 'predictions.csv')}")


def split_paths(text: str) -> list[str]:
    """`[A,B]` as two paths; anything else is one."""
    if not (text.startswith("[") and text.endswith("]")) or Path(text).exists():
        return [text]
    paths = [path.strip() for path in text[1:-1].split(",")]
    if len(paths) > 2 or not all(paths):
        raise InputError(f"ckpt_path={text}: a checkpoint, or two to compare: ckpt_path=[A,B]")
    return paths


class Test:
    """One checkpoint, tested; nothing is written yet."""

    def __init__(self, cfg: DictConfig, checkpoint: "Checkpoint") -> None:
        from weldnet.data.sources.vocabulary import describe_classes, read_vocabulary
        from weldnet.inference.evaluate import evaluate

        hint = "their splits differ, and welds of the training could stand in the test. Type data=folder data.root=DIR"
        self.checkpoint, self.device = checkpoint, cfg.device
        if checkpoint.card.members:
            _refuse_own_images(checkpoint.path)
        self.data = set_up_data(cfg, checkpoint, hint)
        judge, split = _judge(cfg, checkpoint), cfg.split or "test"
        self.report = evaluate(checkpoint, self.data, split, cfg.device, judge)
        if cfg.evaluation.vocabulary is not None:
            vocabulary = read_vocabulary(cfg.evaluation.vocabulary)
            self.report.facts["vocabulary"] = describe_classes(self.report.classes, vocabulary)
        known = self.data.unsplit == "split" and split == "test" and "val" in self.data.splits()
        self.validation = evaluate(checkpoint, self.data, "val", cfg.device, judge) if known else None

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes all files of the test; returns the keys of `report.json`."""
        from weldnet.data.sources.manifest import write_unreadable
        from weldnet.report.writer import save_evaluation, write_report

        data = self.data
        make_folder(folder)
        save_evaluation(self.report, folder)
        write_unreadable(data.unreadable, folder)
        if skipped := data.found.describe_skipped():
            print(skipped)
        for warning in data.warnings:
            log.warning(warning)
        validation, device = self.validation, self.device
        return write_report(self.checkpoint, data, self.report, folder, validation=validation, device=device)[0]


def _refuse_own_images(ensemble: Path) -> None:
    """Refuses to test an ensemble unless other data are typed."""
    if "data" not in typed_keys():
        run = show(run_of(ensemble))
        raise InputError(
            f"{show(ensemble)} is the ensemble of a cross-validation: each of its own images trained or validated all "
            f"of its members but one, so the score would measure memory. {run}/crossval.json has the figures of each "
            f"member on welds that it had not seen, which ckpt_path={run}/fold_0 tests again. To test the ensemble, "
            "type images that none of them has seen: data=folder data.root=DIR"
        )


def _compare(tests: list[Test], folder: Path) -> None:
    from weldnet.console import print_table
    from weldnet.files import write_json, write_text
    from weldnet.report.overview import draw_differences, render_comparison
    from weldnet.report.writer import compare_reports

    comparison = compare_reports(*(test.report for test in tests))
    for test, name in zip(tests, ("a", "b"), strict=True):
        test.write(folder / name)
        print(f"{name.upper()}: {show(test.checkpoint.path)}")
        print_table(test.report.table())
    names = [show(test.checkpoint.path) for test in tests]
    write_text(folder / "comparison.html", render_comparison(comparison, names, folder))
    write_json(folder / "comparison.json", comparison)
    print_table(draw_differences(comparison))
    print(f"the page:   {show(folder / 'comparison.html')}; of each: {show(folder / 'a')}, {show(folder / 'b')}")
    print(f"all of it:  {show(folder / 'comparison.json')}")


def _judge(cfg: DictConfig, checkpoint: "Checkpoint") -> "Judge | None":
    """The checkpoint's judge with the typed targets; the thresholds are chosen anew on its calibration images."""
    from weldnet.config.build import check_decision

    decision = check_decision(cfg.decision, own=True)
    targets = {name: value for name, value in decision.items() if value is not None}
    judge, good = checkpoint.card.judge, cfg.evaluation.good_classes
    if good is None and not targets:
        return judge
    if judge is None:
        raise InputError(
            f"{checkpoint.path} is not calibrated, so there is nothing to choose thresholds from; name the run, or the "
            "checkpoint that it keeps"
        )
    targets_of_judge = {name: getattr(judge.point, name) for name in decision}
    return judge.choose(judge.good_classes if good is None else list(good), **(targets_of_judge | targets))


main = command("test", run, TestConfig)
