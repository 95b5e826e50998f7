"""After training: the kept checkpoint gets its judge, fitted on validation images, and carries it from then on."""

from weldnet.data.datamodule import WeldDataModule
from weldnet.evaluation.judge import Judge, fit_judge
from weldnet.inference.checkpoint import Checkpoint, load_checkpoint, write_judge
from weldnet.inference.evaluate import predict


def calibrate(checkpoint: Checkpoint, data: WeldDataModule, device: str, **targets: float) -> Checkpoint:
    """Fits a judge on the data that trained and validated a checkpoint, and writes it into the file.

    Args:
        data: set up, those of the training.
        targets: as `weldnet.evaluation.decision.choose_operating_point` takes them.

    Returns:
        The checkpoint as it is now.
    """
    classifier = checkpoint.classifier()
    train, select, thresholds = (predict(classifier, data, part, device) for part in ("train", "select", "calibrate"))
    record = checkpoint.record
    judge = fit_judge(
        record.classes, record.good_classes, train, select, thresholds, by_group=data.split_by_group, **targets
    )
    write_judge(checkpoint.path, judge)
    return load_checkpoint(checkpoint.path)


def replace_judge(judge: Judge, good_classes: list[str] | None, **targets: float | None) -> Judge:
    """The judge with what a test asks for in place of what the training asked for; no test image is looked at.

    Args:
        good_classes, targets: None keeps the judge's own.
    """
    given = {name: value for name, value in targets.items() if value is not None}
    if good_classes is None and not given:
        return judge
    own = {name: getattr(judge.point, name) for name in targets}
    return judge.choose(list(judge.good_classes) if good_classes is None else good_classes, **(own | given))
