"""WeldClassifier under a real trainer."""

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, f1_score, recall_score
from torch import Tensor
from torch.nn import functional
from training_runs import Batch, Losses, load_batches, make_trainer, quiet

from weldnet.errors import InputError
from weldnet.model.classifier import WeldClassifier
from weldnet.model.optimizers import warmup_cosine
from weldnet.model.settings import ModelSettings

CLASSES = ["crack", "pore", "undercut", "no_defect"]


def make_classifier(**arguments: Any) -> WeldClassifier:
    """An untrained ResNet18; the arguments are those of `ModelSettings` and of `WeldClassifier`."""
    torch.manual_seed(0)
    settings = {each.name: arguments.pop(each.name) for each in fields(ModelSettings) if each.name in arguments}
    return WeldClassifier(CLASSES, ModelSettings("resnet18", "none", **settings), **arguments)


def random_batch(*labels: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(labels), 3, 32, 16), dtype=torch.uint8, generator=generator)
    return images, torch.tensor(labels)


def balanced_recall(labels: Tensor, predicted: Tensor) -> float:
    """The mean recall of the classes that are there."""
    return float(recall_score(labels, predicted, labels=torch.unique(labels), average="macro"))


BATCHES = [random_batch(0, 0, 0, 1, 3, 3), random_batch(3, 3, 3, 3, 0, 1, seed=1), random_batch(1, seed=2)]
"""The third class has no image."""


@quiet
def test_a_step_goes_downhill(tmp_path: Path) -> None:
    losses = Losses()
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[losses])
    trainer.fit(make_classifier(lr=1e-4), load_batches(BATCHES[0]), load_batches(BATCHES[1]))
    before, after = losses.losses
    assert 0 < before - after < 1


@quiet
@pytest.mark.parametrize("stage", ["val", "test"])
def test_logged_figures_are_sklearns(tmp_path: Path, stage: str) -> None:
    model, trainer = make_classifier(), make_trainer(tmp_path)
    # A head of large weights spreads the answers over the classes.
    torch.manual_seed(2)
    torch.nn.init.normal_(model.network.head.weight, std=5)
    run = trainer.validate if stage == "val" else trainer.test
    figures = run(model, load_batches(*BATCHES), verbose=False)[0]
    answers = trainer.predict(model, load_batches(*BATCHES))
    assert answers is not None
    logits = torch.cat([answer["logits"] for answer in answers if isinstance(answer, dict)])
    labels = torch.cat([labels for _, labels in BATCHES])
    predicted = logits.argmax(1)
    assert len(set(predicted.tolist())) > 1
    expected = {
        f"{stage}/loss": float(functional.cross_entropy(logits, labels)),
        f"{stage}/accuracy": accuracy_score(labels, predicted),
        # scikit-learn leaves out absent classes and warns if one is predicted; so count the present ones here.
        f"{stage}/balanced_accuracy": recall_score(labels, predicted, labels=[0, 1, 3], average="macro"),
        f"{stage}/macro_f1": f1_score(labels, predicted, labels=[0, 1, 3], average="macro"),
        f"{stage}/kappa": cohen_kappa_score(labels, predicted),
    }
    recalls = recall_score(labels, predicted, labels=[0, 1, 3], average=None)
    expected |= {f"{stage}_recall/{CLASSES[i]}": recall for i, recall in zip((0, 1, 3), recalls, strict=True)}
    assert figures == pytest.approx(expected, abs=1e-6)
    groups = torch.tensor([4, 4, 7, 7, 7, 4, 9, 9, 4, 7, 4, 7, 4])
    loader = load_batches(
        *((*batch, each) for batch, each in zip(BATCHES, torch.split(groups, [6, 6, 1]), strict=True))
    )
    within = [balanced_recall(labels[groups == group], predicted[groups == group]) for group in (4, 7, 9)]
    expected[f"{stage}/balanced_accuracy_by_group"] = sum(within) / 3
    assert run(model, loader, verbose=False)[0] == pytest.approx(expected, abs=1e-6)
    known = predicted != 2
    if bool(known.all()):
        assert figures[f"{stage}/balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))


@quiet
def test_figures_of_one_epoch_do_not_leak_into_the_next(tmp_path: Path) -> None:
    model, trainer = make_classifier(), make_trainer(tmp_path)
    first = trainer.validate(model, load_batches(*BATCHES), verbose=False)[0]
    trainer.validate(model, load_batches(BATCHES[2]), verbose=False)
    assert trainer.validate(model, load_batches(*BATCHES), verbose=False)[0] == pytest.approx(first)


def test_class_weights_and_label_smoothing_reach_the_loss() -> None:
    weights = torch.tensor([1.0, 4.0, 0.5, 2.0])
    model = make_classifier(class_weights=weights.tolist(), label_smoothing=0.1).eval()
    images, labels = BATCHES[0]
    expected = functional.cross_entropy(model(images), labels, weights, label_smoothing=0.1)
    assert torch.equal(model.criterion(model(images), labels), expected)


def train_loss(model: WeldClassifier, monkeypatch: pytest.MonkeyPatch, *batch: Tensor) -> Tensor:
    monkeypatch.setattr(model, "log", lambda *args, **settings: None)
    images, labels = batch
    with torch.no_grad():
        return model.training_step((images, labels), 0)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_labels_of_one_class_are_that_class(monkeypatch: pytest.MonkeyPatch, smoothing: float, bf16: bool) -> None:
    model = make_classifier(label_smoothing=smoothing).eval()
    images, labels = BATCHES[0]
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        plain = train_loss(model, monkeypatch, images, labels)
        soft = train_loss(model, monkeypatch, images, functional.one_hot(labels, len(CLASSES)).float())
    assert plain.dtype == soft.dtype == torch.float32
    assert torch.allclose(plain, soft, rtol=1e-5)


def test_soft_labels_mix_the_loss_and_count_as_their_largest_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is a mean over images then: of soft labels torch takes no mean by the class weights."""
    weights = torch.tensor([1.0, 4.0, 0.5, 2.0])
    model = make_classifier(class_weights=weights.tolist()).eval()
    images, _ = BATCHES[0]
    first, second, share = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 3, 0, 2, 0]), 0.7
    soft = torch.lerp(functional.one_hot(second, 4).float(), functional.one_hot(first, 4).float(), share)
    loss = train_loss(model, monkeypatch, images, soft)
    logits = model(images).detach()
    parts = [functional.cross_entropy(logits, labels, weights, reduction="none") for labels in (first, second)]
    assert torch.allclose(loss, (share * parts[0] + (1 - share) * parts[1]).mean())
    confusion = model.train_sums.confusion.compute()
    assert torch.equal(confusion.sum(1), torch.bincount(first, minlength=4))


class Unfreezing(Callback):
    """Notes in which epochs the first convolution changes, and its batch norm."""

    def __init__(self) -> None:
        self.changed: list[tuple[bool, bool]] = []

    def values(self, pl_module: LightningModule) -> tuple[Tensor, Tensor]:
        assert isinstance(pl_module, WeldClassifier)
        convolution, norm = pl_module.network.stage("stem")
        return convolution.get_parameter("weight").detach().clone(), norm.get_buffer("running_mean").clone()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = self.values(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weight, mean = self.values(pl_module)
        self.changed.append((not torch.equal(weight, self.before[0]), not torch.equal(mean, self.before[1])))


@quiet
@pytest.mark.parametrize(
    ("at", "learning"), [(None, [False, False, False]), (0, [True, True, True]), (2, [False, False, True])]
)
def test_unfreezing(tmp_path: Path, at: int | None, learning: list[bool]) -> None:
    note = Unfreezing()
    trainer = make_trainer(tmp_path, max_epochs=3, callbacks=[note])
    model = make_classifier(freeze_through="layer2", unfreeze_at_epoch=at)
    trainer.fit(model, load_batches(BATCHES[0]), load_batches(BATCHES[1]))
    assert note.changed == [(learns, learns) for learns in learning]


@quiet
def test_schedule_runs_over_all_steps(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=3)
    model = make_classifier(
        scheduler=partial(warmup_cosine, warmup_share=0.1, final_share=0.25), lr=0.01, layer_decay=0.5
    )
    trainer.fit(model, load_batches(BATCHES[0], BATCHES[1]), load_batches(BATCHES[2]))
    rates = {group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups}
    assert rates["head"] == pytest.approx(0.0025)
    assert rates["stem_vectors"] == pytest.approx(0.0025 / 32)


@quiet
def test_divergence_is_reported(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=3)
    model = make_classifier(optimizer=torch.optim.SGD, lr=1e30)
    with pytest.raises(InputError, match=r"diverged; lower optimizer\.lr \(1e\+30 now\)"):
        trainer.fit(model, load_batches(BATCHES[0], BATCHES[1]), load_batches(BATCHES[2]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer_decay": 0.0}, r"model\.layer_decay=0\.0: allowed are 0\.01 to 1"),
        ({"layer_decay": 1.5}, r"model\.layer_decay=1\.5"),
        ({"label_smoothing": -0.1}, r"model\.label_smoothing=-0\.1: allowed are 0\.0 to 1"),
        ({"unfreeze_at_epoch": 2}, r"nothing is frozen; set model\.freeze_through"),
        ({"freeze_through": "layer9"}, r"model\.freeze_through=layer9"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_classifier(**settings)
