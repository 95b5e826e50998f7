"""Checkpoints carry all that a test needs, and nothing that runs."""

import io
import logging
import os
import pickle
import resource
from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from drawing import SEAM, write_welds
from training_runs import make_trainer, quiet

from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.images import Geometry
from weldnet.data.settings import ImageSettings
from weldnet.data.sources.source import Folder
from weldnet.data.splits.leaks import fingerprints
from weldnet.errors import InputError
from weldnet.inference.checkpoint import RECORD, file_digest, load_checkpoint, write_checkpoint, write_judge
from weldnet.inference.evaluate import evaluate, run_trainer
from weldnet.inference.finished_runs import find_checkpoint
from weldnet.inference.trained_card import current_versions
from weldnet.model.classifier import WeldClassifier
from weldnet.model.settings import ModelSettings
from weldnet.training.fit import calibrate, describe

GEOMETRY = Geometry(32, 16, "letterbox", "long_side_vertical")
BACKBONE = "test_resnet"
"""Its checkpoints have 2 MB."""
CONFIG = "data:\n  source: folder  # ß\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> WeldDataModule:
    folder = tmp_path_factory.mktemp("welds")
    source = Folder(SEAM, root=str(write_welds(folder / "welds")))
    images = ImageSettings(cache_dir=str(folder / "cache"))
    data = WeldDataModule(source, geometry=GEOMETRY, image_settings=images, seed=0)
    data.setup()
    return data


@pytest.fixture(scope="module")
def model(data: WeldDataModule) -> WeldClassifier:
    model = WeldClassifier(data.classes, ModelSettings(BACKBONE, "none", channels_last=False), torch.optim.SGD)
    model.record = describe(data, model, CONFIG).to_plain()
    return model


@pytest.fixture(scope="module")
def saved(data: WeldDataModule, model: WeldClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that a trainer wrote after a step; not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    trainer = make_trainer(folder, max_steps=1, max_epochs=1)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


@pytest.fixture(scope="module")
def content(saved: Path) -> dict[str, Any]:
    """What stands in the checkpoint, its optimizer left out."""
    content: dict[str, Any] = torch.load(saved, weights_only=True)
    return {key: content[key] for key in (RECORD, "state_dict", "epoch")}


@quiet
def test_lightning_loads_it(model: WeldClassifier, saved: Path) -> None:
    loaded = WeldClassifier.load_from_checkpoint(saved)
    assert (loaded.classes, loaded.settings, loaded.lr) == (model.classes, model.settings, model.lr)
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.load(saved, weights_only=True)["hyper_parameters"] == loaded.hparams


class Focused(WeldClassifier):
    """A class of one's own that saves its arguments as Lightning shows it."""

    def __init__(self, classes: list[str], settings: ModelSettings, *arguments: Any, focus: Any, **others: Any) -> None:
        super().__init__(classes, settings, *arguments, **others)
        self.focus = focus
        self.save_hyperparameters()


@quiet
@pytest.mark.parametrize("focus", [2.0, "strong", [1, {"crack": 0.5}], torch.ones(2)])
def test_a_subclass_may_save_its_arguments(data: WeldDataModule, tmp_path: Path, focus: Any) -> None:
    model = Focused(data.classes, ModelSettings(BACKBONE, "none"), torch.optim.SGD, lr=0.5, focus=focus)
    trainer = make_trainer(tmp_path, max_steps=1, max_epochs=1)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = Focused.load_from_checkpoint(tmp_path / "last.ckpt")
    assert (loaded.classes, loaded.settings, loaded.lr) == (model.classes, model.settings, 0.5)
    assert str(loaded.focus) == str(focus)
    assert WeldClassifier.load_from_checkpoint(tmp_path / "last.ckpt").settings == model.settings


@quiet
@pytest.mark.parametrize("focus", [Path("focus"), Geometry(), torch.nn.ReLU()])
@pytest.mark.filterwarnings("ignore:Attribute 'focus' is an instance of `nn.Module`")
def test_an_argument_that_runs_code_is_refused_before_training(
    data: WeldDataModule, tmp_path: Path, focus: Any
) -> None:
    model = Focused(data.classes, ModelSettings(BACKBONE, "none"), focus=focus)
    with pytest.raises(InputError, match=r"Focused saves its argument focus, a .*\(ignore=\['focus'\]\)"):
        make_trainer(tmp_path, max_steps=1, max_epochs=1).fit(model, datamodule=data)
    assert model.global_step == 0


@quiet
def test_round_trip(data: WeldDataModule, model: WeldClassifier, saved: Path) -> None:
    file = saved
    checkpoint = load_checkpoint(file)
    card = checkpoint.card
    assert (card.classes, card.backbone, card.channels_last) == (["crack", "pore"], BACKBONE, False)
    assert checkpoint.geometry == GEOMETRY
    assert (card.split_digest, card.validation_groups) == (data.split_digest, "unseen")
    assert (card.config, card.judge, card.versions) == (CONFIG, None, current_versions())
    assert card.git_commit is None or len(card.git_commit.removesuffix("-dirty")) == 40
    assert checkpoint.digest == file_digest(file)
    network = checkpoint.network()
    assert not network.training
    for name, value in model.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    images, _ = next(iter(data.batches("all")))
    torch.testing.assert_close(network(images), model.network.eval()(images))


Change = Callable[[dict[str, Any]], Any]

ENDLESS: dict[str, Any] = {}
ENDLESS["novelty"] = ENDLESS


def change_record(**fields: Any) -> Change:
    return lambda content: content | {RECORD: content[RECORD] | fields}


@quiet
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: {k: v for k, v in content.items() if k != RECORD}, "is a checkpoint, but not weldnet's"),
        (lambda content: {k: v for k, v in content.items() if k != "state_dict"}, "not weldnet's"),
        (lambda content: content["state_dict"], "not weldnet's"),
        (lambda content: [1, 2], "not weldnet's"),
        (lambda content: content | {RECORD: {}}, "has checkpoint format None; this weldnet reads 3, 4"),
        (change_record(format=2), "has checkpoint format 2"),
        (change_record(colour="red"), "record is damaged.*colour"),
        (change_record(judge=ENDLESS), "record is damaged: judge: RecursionError"),
        (change_record(judge={"classes": torch.nn.Parameter(torch.zeros(1))}), "record is damaged: judge: "),
        (change_record(judge=[1]), "record is damaged: judge: "),
        (lambda content: content | {RECORD: {"format": 3}}, "record is damaged: classes: Field required"),
        (change_record(geometry={"height": 0}), "record is damaged"),
        (change_record(geometry={"height": 10, "depth": 3}), "record is damaged"),
        (change_record(geometry={"height": "10"}), "record is damaged"),
        (change_record(geometry={"normalize": "grey"}), "record is damaged.*data.normalize=grey"),
        (change_record(geometry=[1]), "record is damaged"),
        (change_record(geometry={"height": 10.0, "width": 10}), "record is damaged.*valid integer"),
        (change_record(geometry={"height": 10, "width": True}), "record is damaged.*valid integer"),
        (change_record(classes=["crack", "p" * 256]), "record is damaged.*255 characters"),
        (change_record(classes=[str(number) for number in range(1001)]), "record is damaged.*at most 1000 items"),
        (lambda content: content | {"epoch": "1"}, "record is damaged.*epoch"),
        (change_record(classes=7), "record is damaged"),
        (change_record(classes=["crack", 3]), "record is damaged"),
        (change_record(config=None), "record is damaged"),
        (change_record(leaks=["a", 5]), "record is damaged"),
        (change_record(fingerprints=[1, 2]), "record is damaged"),
        (change_record(fingerprints=torch.zeros(3)), "record is damaged"),
        (change_record(classes=["crack", "pore", "undercut"]), "weights do not fit its test_resnet"),
        (change_record(backbone="resnet50"), "weights do not fit its resnet50"),
        (change_record(backbone="vgg"), "backbone"),
        (change_record(backbone=5), "backbone|damaged"),
        (change_record(mean=(0.5, 0.5)), "record is damaged.*mean"),
        (change_record(std=[0.5, 0.5, "0.5"]), "record is damaged.*std"),
        (change_record(std=0.5), "record is damaged"),
        (lambda content: content | {"state_dict": {"network.head.weight": 3}}, "do not fit|damaged"),
        (lambda content: content | {"state_dict": {5: torch.zeros(1)}}, "do not fit|damaged|not weldnet's"),
    ],
)
def test_foreign_and_damaged_records(content: dict[str, Any], tmp_path: Path, change: Change, message: str) -> None:
    file = tmp_path / "a.ckpt"
    torch.save(change(content), file)
    with pytest.raises(InputError, match=message):
        load_checkpoint(file).network()


@quiet
def test_a_hostile_key_stays_on_one_line(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(change_record(**{"\x1b[31m\n" + "k" * 10_000: 1})(content), tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="record is damaged") as caught:
        load_checkpoint(tmp_path / "a.ckpt")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(tmp_path)) + 400


@quiet
def test_a_record_cannot_fill_the_memory(content: dict[str, Any], tmp_path: Path) -> None:
    """The network that it names has 4.5 GB of weights."""
    torch.save(
        change_record(backbone="vit_giant_patch14_dinov2", geometry={"height": 28, "width": 14})(content),
        tmp_path / "a.ckpt",
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="weights do not fit its vit_giant_patch14_dinov2"):
        load_checkpoint(tmp_path / "a.ckpt").network()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10**6, "kilobytes"


class Evil:
    """Creates the file `touched` when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.touched,)


@quiet
def test_code_does_not_run(content: dict[str, Any], tmp_path: Path) -> None:
    file, touched = tmp_path / "a.ckpt", tmp_path / "touched"
    for hostile in (Evil(touched), content | {"hyper_parameters": Evil(touched)}, content | {RECORD: Evil(touched)}):
        torch.save(hostile, file)
        with pytest.raises(InputError, match="holds more than plain data, and loading that could run code"):
            load_checkpoint(file)
    for name, hostile in (("legacy", content | {"x": Evil(touched)}), ("legacy", Evil(touched))):
        torch.save(hostile, tmp_path / name, _use_new_zipfile_serialization=False)
        with pytest.raises(InputError, match="is not loaded"):
            load_checkpoint(tmp_path / name)
    file.write_bytes(pickle.dumps(Evil(touched)))
    with pytest.raises(InputError, match="is not loaded"):
        load_checkpoint(file)
    assert not touched.exists()
    pickle.loads(file.read_bytes())
    assert touched.exists(), "else this test could not fail"


@quiet
@pytest.mark.parametrize(
    "hostile",
    [
        {"_instantiator": "lightning.pytorch.cli.instantiate_module"},
        {"_instantiator": "os.system"},
        {"settings": {"backbone": BACKBONE, "weights": "no/such/file"}},
    ],
)
def test_lightning_makes_nothing_that_a_file_names(saved: Path, tmp_path: Path, hostile: dict[str, Any]) -> None:
    whole = torch.load(saved, weights_only=True)
    torch.save(whole | {"hyper_parameters": whole["hyper_parameters"] | hostile}, tmp_path / "a.ckpt")
    assert WeldClassifier.load_from_checkpoint(tmp_path / "a.ckpt").classes == ["crack", "pore"]


@quiet
def test_lightning_misses_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WeldClassifier.load_from_checkpoint(tmp_path / "none.ckpt")


@quiet
@pytest.mark.parametrize(
    ("settings", "message", "evaluates"),
    [
        (
            {"geometry": Geometry(32, 16)},
            r"the data have Geometry\(.*\); the checkpoint has learned from Geometry",
            False,
        ),
        (
            {"classes": ["pore", "crack"]},
            "the data have the classes pore, crack; the checkpoint has learned crack",
            False,
        ),
        ({"seed": 1}, "these are not the data that trained the checkpoint: the splits differ", True),
    ],
)
def test_other_data_do_not_calibrate(
    data: WeldDataModule, saved: Path, settings: dict[str, Any], message: str, evaluates: bool
) -> None:
    arguments = {"geometry": GEOMETRY, "image_settings": data.image_settings, "seed": 0}
    other = WeldDataModule(data.source, **(arguments | settings))  # type: ignore[arg-type]
    other.setup()
    checkpoint, before = load_checkpoint(saved), saved.read_bytes()
    with pytest.raises(InputError, match=message):
        calibrate(checkpoint, other)
    assert saved.read_bytes() == before
    if not evaluates:
        with pytest.raises(InputError, match=message):
            evaluate(checkpoint, other, "test")


@pytest.mark.parametrize(
    ("raised", "expected"), [(None, None), (SystemExit, KeyboardInterrupt), (ValueError, ValueError)]
)
def test_lightning_is_quiet_only_within(raised: type[BaseException] | None, expected: type[BaseException]) -> None:
    lightning = logging.getLogger("lightning.pytorch")
    before = lightning.level
    with pytest.raises(expected) if raised else nullcontext(), run_trainer():
        lightning.setLevel(logging.ERROR)
        if raised:
            raise raised
    assert lightning.level == before


@quiet
def test_truncated_and_garbage(saved: Path, tmp_path: Path) -> None:
    file, whole = tmp_path / "a.ckpt", saved.read_bytes()
    for content in (b"", b"PK\x03\x04", b"garbage" * 100, whole[:1000], whole[: len(whole) // 2], whole[:-10]):
        file.write_bytes(content)
        with pytest.raises(InputError, match="it is truncated or no checkpoint at all"):
            load_checkpoint(file)
    for path in (tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(InputError, match="no checkpoint at"):
            load_checkpoint(path)


RUNS = {
    "2026-01-03_10-00-00_cccc": (),
    "2026-01-01_09-00-00_aaaa": ("best.ckpt", "last.ckpt"),
    "2026-01-02_08-00-00_bbbb": ("last.ckpt",),
}
"""By when they were begun or resumed, whatever their names say."""


def begin(run: Path, order: int) -> None:
    """Writes `config.yaml` as the `order`th of all runs."""
    (run / "config.yaml").touch()
    os.utime(run / "config.yaml", (1, 10**6 + order))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for run, names in RUNS.items():
        folder = tmp_path / "runs" / "train" / run
        (folder / "checkpoints").mkdir(parents=True)
        for name in names:
            (folder / "checkpoints" / name).touch()
        begin(folder, list(RUNS).index(run))
    (tmp_path / "copy=1.ckpt").touch()


EMPTY, FIRST, SECOND = (f"runs/train/{run}" for run in RUNS)


@pytest.mark.parametrize(
    ("ckpt_path", "expected"),
    [
        ("copy=1.ckpt", "copy=1.ckpt"),
        (f"{FIRST}/checkpoints/last.ckpt", f"{FIRST}/checkpoints/last.ckpt"),
        (FIRST, f"{FIRST}/checkpoints/best.ckpt"),
        (f"{SECOND}/", f"{SECOND}/checkpoints/last.ckpt"),
        ("last", f"{SECOND}/checkpoints/last.ckpt"),
        ("best", f"{SECOND}/checkpoints/last.ckpt"),
    ],
)
def test_find_checkpoint(runs: None, ckpt_path: str, expected: str) -> None:
    found = find_checkpoint(ckpt_path)
    assert found.is_absolute()
    assert found == Path(expected).absolute()
    assert find_checkpoint(os.path.abspath(expected)) == found


def test_best_of_the_newest_run(runs: None) -> None:
    best = Path(SECOND, "checkpoints", "best.ckpt").absolute()
    best.touch()
    assert find_checkpoint("best") == best
    assert find_checkpoint("last") == best.with_name("last.ckpt")


def test_no_older_run_stands_in_for_the_newest(runs: None) -> None:
    begin(Path(EMPTY), 3)
    assert find_checkpoint("last") == Path(EMPTY, "checkpoints", "last.ckpt").absolute()
    with pytest.raises(InputError, match=rf"{EMPTY} holds no checkpoints/best\.ckpt or last\.ckpt"):
        find_checkpoint("best")


@pytest.mark.parametrize(
    ("ckpt_path", "message"),
    [
        (EMPTY, r"holds no checkpoints/best\.ckpt or last\.ckpt"),
        ("runs", r"holds no checkpoints/best\.ckpt or last\.ckpt"),
        ("none.ckpt", "no checkpoint at .*none.ckpt; ckpt_path takes a file, a run folder, best or last"),
        ("bset", "no checkpoint at"),
    ],
)
def test_checkpoints_that_are_not_there(runs: None, ckpt_path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_checkpoint(ckpt_path)


@pytest.mark.parametrize("name", ["best", "last"])
def test_no_run_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"ckpt_path={name}: no finished epoch of any run below"):
        find_checkpoint(name)


def test_record_is_plain(data: WeldDataModule) -> None:
    record = describe(data, WeldClassifier(data.classes, ModelSettings(BACKBONE, "none")), CONFIG)
    plain = record.to_plain()
    assert type(pickle.loads(pickle.dumps(plain))) is dict
    assert record.fingerprints.tolist() == sorted(fingerprints(data.samples("train")["digest"]).tolist())


def test_format_3_is_brought_up_to_date(content: dict[str, Any], tmp_path: Path) -> None:
    record = content[RECORD]
    old = {name: value for name, value in record["geometry"].items() if name != "normalize"}
    torch.save(content | {RECORD: record | {"format": 3, "geometry": old}}, tmp_path / "a.ckpt")
    loaded = load_checkpoint(tmp_path / "a.ckpt").card
    assert loaded.geometry == GEOMETRY
    assert (loaded.geometry.normalize, loaded.to_plain()["format"]) == ("imagenet", 4)
    write_judge(tmp_path / "a.ckpt", None)
    written = torch.load(tmp_path / "a.ckpt", weights_only=True)[RECORD]
    assert (written["format"], written["geometry"]) == (4, record["geometry"])


def test_standardised_data_need_their_own_statistics(data: WeldDataModule) -> None:
    standardised = copy(data)
    standardised.geometry = replace(GEOMETRY, normalize="per_image")
    plain = WeldClassifier(data.classes, ModelSettings(BACKBONE, "none"))
    with pytest.raises(InputError, match=r"make it by WeldClassifier\(\.\.\., \*\*data\.geometry\.statistics\)"):
        describe(standardised, plain)
    model = WeldClassifier(data.classes, ModelSettings(BACKBONE, "none"), **standardised.geometry.statistics)
    record = describe(standardised, model)
    assert (record.geometry, record.mean, record.std) == (standardised.geometry, (128 / 255,) * 3, (40 / 255,) * 3)
    seen: list[torch.Tensor] = []
    model.network.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    levels = torch.tensor([128, 168, 88], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 32, 32)
    model.eval()(levels)
    torch.testing.assert_close(seen[0][:, :, 0, 0], torch.tensor([[0.0], [1], [-1]]).expand(3, 3), rtol=0, atol=1e-6)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.ckpt").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"a\.ckpt cannot be read: permission denied"):
        load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("number", [1, 2, 5, 12])
def test_what_interrupts_a_write_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], number: int
) -> None:
    """torch cannot end an archive that was interrupted, and raises an error of its own over what interrupted it."""
    writes = count(1)

    class Interrupted(io.FileIO):
        def write(self, content: Any) -> int:
            if next(writes) == number:
                raise kind(5)
            return super().write(content)

    file = tmp_path / "a.ckpt"
    file.write_text("old")
    monkeypatch.setattr(Path, "open", lambda path, mode: Interrupted(path, mode.replace("b", "")))
    with pytest.raises(kind):
        write_checkpoint({str(index): torch.zeros(10) for index in range(20)}, file)
    monkeypatch.undo()
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.ckpt"]
