"""WeldDataModule: from each source to checked splits and repeatable batches."""

import re
import shutil
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from decoding import read_image
from drawing import SEAM, draw_blobs, write_welds
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torch.utils.data import DistributedSampler
from training_runs import Batch, make_trainer, quiet

from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.images import Geometry
from weldnet.data.settings import BatchSettings, ImageSettings, Shares, SplitRule
from weldnet.data.sources.folders import scan_folder
from weldnet.data.sources.manifest import write_manifest
from weldnet.data.sources.source import Folder, Manifest, Source, Synthetic
from weldnet.data.splits.rules import count_by_split
from weldnet.errors import InputError
from weldnet.model.classifier import WeldClassifier
from weldnet.model.settings import ModelSettings

SMALL = Geometry(height=16, width=8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_welds(tmp_path / "welds", ("pore", "crack"), seams=range(8))


def set_up(source: Source | None = None, *, seed: int = 0, rule_seed: int | None = None, **keys: Any) -> WeldDataModule:
    """A module that is set up; the keys are those of its settings and its own."""
    keys = {"batch_size": 4, **keys}

    def take(kind: Any) -> Any:
        return kind(**{each.name: keys.pop(each.name) for each in fields(kind) if each.name in keys})

    geometry = keys.pop("geometry", SMALL)
    settings = [replace(take(SplitRule), seed=rule_seed), geometry, take(BatchSettings), take(ImageSettings)]
    data = WeldDataModule(source or Synthetic(num_images=36, num_seams=6), *settings, seed=seed, **keys)
    data.setup()
    return data


def from_folder(
    root: Path, *, group_pattern: str | None = SEAM, groups: str | None = None, **keys: Any
) -> WeldDataModule:
    return set_up(Folder(group_pattern, groups, str(root)), **keys)


def from_manifest(file: Path, groups: str | None = None) -> WeldDataModule:
    return set_up(Manifest(groups=groups, manifest=str(file)))


def indices(data: WeldDataModule, epoch: int = 0) -> list[int]:
    """The order of the training images in an epoch."""
    sampler: Any = data.train_dataloader().sampler
    sampler.set_epoch(epoch)
    return list(chain.from_iterable(sampler))


def check_batches(data: WeldDataModule) -> None:
    assert data.splits() == ["train", "val", "test"]
    for split in data.splits():
        samples, seen = data.samples(split), 0
        for images, labels in data.batches(split):
            assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
            assert images.shape == (len(labels), 3, 16, 8)
            for image, label in zip(images, labels, strict=True):
                path, name = samples["path"][seen], samples["label"][seen]
                assert data.classes[label] == name
                assert torch.equal(image, torch.from_numpy(read_image(path, height=16, width=8)))
                seen += 1
        assert seen == len(samples)


def test_folder(root: Path) -> None:
    data = from_folder(root)
    assert data.classes == ["crack", "pore"]
    assert data.validation_groups == "unseen"
    assert data.warnings == []
    check_batches(data)
    assert len(data.samples("all")) == 32
    assert sum(sum(row.values()) for row in count_by_split(data.table).values()) == 32


@pytest.mark.parametrize("cache", ["disk", "memory", "none"])
def test_people_are_shown_photographs_as_they_are(root: Path, cache: str) -> None:
    data = from_folder(root, cache=cache, geometry=replace(SMALL, normalize="per_image"))
    rows, paths = [3, 0], data.samples("train")["path"]
    standardised = [read_image(paths[row], height=16, width=8, normalize="per_image") for row in rows]
    plain = [read_image(paths[row], height=16, width=8) for row in rows]
    assert np.array_equal(data.dataset("train").pictures(rows), standardised)
    assert np.array_equal(data.photographs("train", rows), plain)
    assert not np.array_equal(plain, standardised)
    assert np.array_equal(from_folder(root, cache=cache).photographs("train", rows), plain)
    if cache != "none":
        Path(paths[0]).unlink()
        assert np.array_equal(data.photographs("train", rows), standardised)


def test_manifest(root: Path) -> None:
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    table = scan_folder(root).with_columns(group=pl.col("path").str.extract(f"({SEAM})"))
    table = table.with_columns(split=pl.col("group").replace_strict({f"seam{i}": splits[i] for i in range(8)}))
    write_manifest(table, root.parent / "manifest.csv")
    data = from_manifest(root.parent / "manifest.csv")
    check_batches(data)
    assert data.table.select(table.columns).equals(table)


def test_synthetic() -> None:
    check_batches(set_up(Synthetic(num_images=60, num_seams=10)))


@pytest.mark.parametrize("cache", ["memory", "device", "none"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes")
def test_batches_are_alike_wherever_images_are_kept(root: Path, cache: str) -> None:
    data = from_folder(root, cache=cache, num_workers=2 if cache == "none" else None)
    check_batches(data)
    plain = from_folder(root)
    assert data.table.equals(plain.table)
    for batch, expected in zip(data.train_dataloader(), plain.train_dataloader(), strict=True):
        assert torch.equal(batch[0], expected[0])
        assert torch.equal(batch[1], expected[1])


def test_folds_hold_out_every_image_once(root: Path) -> None:
    tests = [set(from_folder(root, num_folds=4, fold=fold).samples("test")["path"]) for fold in range(4)]
    assert sorted(path for paths in tests for path in paths) == sorted(scan_folder(root)["path"])


def test_images_are_mixed_in_training_only(root: Path) -> None:
    data = from_folder(root, mixup=0.4, cutmix=1.0)
    batch = next(iter(data.train_dataloader()))
    images, labels = data.augmented(batch, 0, 0, 0)
    assert (images.dtype, labels.dtype, labels.shape) == (torch.float32, torch.float32, (4, 2))
    assert torch.equal(data.augmented(batch, 0, 0, 0)[0], images)
    assert not torch.equal(data.augmented(batch, 0, 1, 0)[0], images)
    assert torch.equal(data.on_after_batch_transfer(batch, 0)[0], batch[0])


def test_more_than_one_page_is_a_warning(root: Path) -> None:
    pages = [Image.fromarray(draw_blobs(40, 20, seed=seed)) for seed in (70, 71)]
    pages[0].save(root / "pore" / "seam9_0.tif", save_all=True, append_images=pages[1:])
    (warning,) = from_folder(root, groups="per_image", group_pattern=None).warnings
    assert re.fullmatch(r"1 file with more than one page; the first is used: .*seam9_0\.tif", warning)


def test_a_manifest_names_the_row_of_a_missing_file(root: Path) -> None:
    lines = [
        "path,label",
        "",
        "crack/gone.jpg,crack",
        *(f"{path},{label}" for path, label, *_ in scan_folder(root).rows()),
    ]
    (root / "m.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"1 of 33 images cannot be read(.*\n)+  row 3: .*gone\.jpg: no such file"):
        from_manifest(root / "m.csv", groups="per_image")


def test_folder_with_splits(root: Path) -> None:
    for split, seams in (("train", range(3)), ("val", range(3, 4)), ("test", range(4, 5))):
        write_welds(root.parent / "split" / split, seams=seams)
    data = from_folder(root.parent / "split", group_pattern=None)
    check_batches(data)
    assert data.validation_groups == "unknown"
    assert [warning[:30] for warning in data.warnings] == ["the splits come without groups"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": Folder()}, r"data=folder needs data\.root=DIR"),
        ({"source": Manifest()}, r"data=manifest needs data\.manifest=FILE\.csv"),
        ({"balance": "both"}, r"data\.balance=both: allowed are none, weights, sampler"),
        ({"augmentation": "heavy"}, r"data\.augmentation=heavy"),
        ({"on_unreadable": "ignore"}, r"data\.on_unreadable=ignore: allowed are stop, skip"),
        ({"batch_size": 0}, r"data\.batch_size=0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        set_up(**settings)


@pytest.mark.parametrize(
    ("groups", "message"),
    [("per_seam", r"data\.groups=per_seam: allowed are per_image"), ("per_image", "exclude each other")],
)
def test_one_source_of_groups(groups: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Folder(SEAM, groups)


def test_without_groups_nothing_is_split(root: Path) -> None:
    with pytest.raises(InputError) as caught:
        from_folder(root, group_pattern=None)
    for way_out in ("a group column in a manifest", "data.group_pattern='REGEX'", "data.group_by=per_image"):
        assert way_out in str(caught.value)
    assert from_folder(root, group_pattern=None, groups="per_image").validation_groups == "per_image"


def test_two_welds_of_a_class_lead_to_a_result(tmp_path: Path) -> None:
    root = write_welds(tmp_path / "welds", ("pore", "crack"), seams=range(2), shots=6)
    with pytest.raises(InputError, match=r"crack has 2, pore has 2:\n  crack: seam0 (.|\n)*Type data\.val=known"):
        from_folder(root)
    data = from_folder(root, val="known", shares=Shares(0.5, 0.25, 0.25))
    check_batches(data)
    assert data.validation_groups == "known"
    assert any("validation holds welds that training knows" in warning for warning in data.warnings)
    trained, tested = (set(data.samples(split)["group"]) for split in ("train", "test"))
    assert (len(trained), trained & tested) == (1, set())
    last = [Path(path).stem.partition("_")[2] for path in data.samples("val")["path"]]
    assert sorted(last) == ["4", "4", "5", "5"]
    folds = [from_folder(root, val="known", num_folds=2, fold=fold) for fold in range(2)]
    assert len({data.samples("test")["group"][0] for data in folds}) == 2
    with pytest.raises(InputError, match=r"data\.val=new: allowed are unseen, known"):
        from_folder(root, val="new")
    with pytest.raises(InputError, match=r"data\.val=known needs data\.shares\.val above 0"):
        from_folder(root, val="known", shares=Shares(0.85, 0.0, 0.15))
    with pytest.raises(InputError, match="no weld in train has two of one class"):
        from_folder(root, val="known", group_pattern=None, groups="per_image")


def test_copies_of_a_known_weld_stay_together(tmp_path: Path) -> None:
    root = write_welds(tmp_path / "welds", ("pore", "crack"), seams=range(2), shots=6)
    for path in root.glob("*/*_0.*"):
        shutil.copy(path, path.with_name(path.name.replace("_0.", "_9.")))
    data = from_folder(root, val="known", shares=Shares(0.5, 0.25, 0.25))
    data.setup()
    shots = data.samples("val")["path"].str.extract(r"_(\d)\.")
    assert sorted(shots) == ["5", "5"]
    assert {"0", "9"} <= set(data.samples("train")["path"].str.extract(r"_(\d)\."))
    for path in root.glob("*/*"):
        path.write_bytes(path.with_stem(f"{path.stem[:-1]}0").read_bytes())
    with pytest.raises(InputError, match=r"data\.val=known: each photograph for validation is a copy"):
        from_folder(root, val="known").setup()


def test_a_validation_of_ones_own_stays(root: Path) -> None:
    table = scan_folder(root).with_columns(split=pl.Series(["train", "val", "test", "train"] * 8))
    write_manifest(table, root.parent / "manifest.csv")
    own = Manifest(manifest=str(root.parent / "manifest.csv"))
    data = set_up(own, val="known", shares=Shares(0.5, 0.25, 0.25))
    assert len(data.samples("val")) == 8
    for key in ("data.val=known", "data.shares"):
        assert f"{key} has no effect: the source has a val split" in data.warnings
    assert not any("no effect" in warning for warning in set_up(own).warnings)


def test_val_is_carved_from_train_by_whole_groups(root: Path) -> None:
    table = scan_folder(root).with_columns(group=pl.col("path").str.extract(f"({SEAM})"))
    table = table.with_columns(
        split=pl.when(pl.col("group") == "seam7").then(pl.lit("test")).otherwise(pl.lit("train"))
    )
    write_manifest(table, root.parent / "manifest.csv")
    data = from_manifest(root.parent / "manifest.csv")
    check_batches(data)
    assert data.samples("test")["group"].unique().to_list() == ["seam7"]
    assert data.validation_groups == "unseen"
    assert any("taken from train" in warning for warning in data.warnings)
    write_manifest(table.with_columns(group=pl.lit(None, pl.String)), root.parent / "manifest.csv")
    with pytest.raises(InputError, match=r"has no val split, and it is unknown (.|\n)* data\.group_by=per_image"):
        from_manifest(root.parent / "manifest.csv")


def test_unreadable_files_stop_or_are_skipped(root: Path) -> None:
    (root / "crack" / "seam1_0.jpg").write_bytes(b"")
    (root / "pore" / "seam3_1.jpg").write_text("no image")
    named = [rf"{root}/crack/seam1_0\.jpg: the file is empty", rf"{root}/pore/seam3_1\.jpg: not a JPEG"]
    with pytest.raises(InputError, match=rf"(?s)2 of 32 images .*data\.on_unreadable=skip.*{named[0]}.*{named[1]}"):
        from_folder(root)
    data = from_folder(root, on_unreadable="skip")
    assert [warning.splitlines()[0] for warning in data.warnings] == [
        "2 images cannot be read and are skipped (unreadable.csv has them all):"
    ]
    assert len(data.samples("all")) == 30
    check_batches(data)
    for file in root.rglob("*.jpg"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match="none of the images can be read"):
        from_folder(root, on_unreadable="skip")


@pytest.mark.parametrize("balance", ["none", "sampler"])
def test_order_is_a_function_of_seed_and_epoch(root: Path, balance: str) -> None:
    first, again = (from_folder(root, balance=balance) for _ in range(2))
    orders = [indices(first, epoch) for epoch in range(3)]
    assert [indices(again, epoch) for epoch in range(3)] == orders
    assert len({tuple(order) for order in orders}) == 3
    assert indices(from_folder(root, balance=balance, seed=1)) != orders[0]
    if balance == "none":
        assert isinstance(first.train_dataloader().sampler, DistributedSampler)
        assert all(sorted(order) == list(range(len(first.samples("train")))) for order in orders)


def test_balance(root: Path) -> None:
    write_welds(root, ("pore", "undercut"), seams=range(8, 20), shots=5)
    weights = from_folder(root, balance="weights").class_weights()
    data = from_folder(root)
    assert data.class_weights() is None
    assert from_folder(root, balance="sampler").class_weights() is None
    assert weights is not None
    counts = torch.tensor([count_by_split(data.table)[label]["train"] for label in data.classes])
    # Every class has the same say in the mean loss, and one image has a weight of 1 on average.
    assert weights.dtype == torch.float32
    assert (weights * counts).tolist() == pytest.approx([counts.sum().item() / 3] * 3)


class Recorder(Callback):
    """Keeps what the model is given in each stage."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self.seen["train"].append(batch[0])

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        loader: int = 0,
    ) -> None:
        self.seen["val"].append(batch[0])

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        loader: int = 0,
    ) -> None:
        self.seen["test"].append(batch[0])


@pytest.mark.slow
@quiet
def test_only_training_is_augmented(root: Path, tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        data, recorder = from_folder(root, augmentation="weld"), Recorder()
        trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[recorder])
        model = WeldClassifier(data.classes, ModelSettings("test_resnet", "none"))
        trainer.fit(model, datamodule=data)
        trainer.test(model, datamodule=data, verbose=False)
        runs.append(recorder.seen)
    for split in ("val", "test"):
        plain = torch.cat([images for images, _ in data.batches("select" if split == "val" else split)])
        for seen in runs:
            assert all(images.dtype == torch.uint8 for images in seen[split])
            assert torch.equal(torch.cat(seen[split])[-len(plain) :], plain)
    first, second = (seen["train"] for seen in runs)
    assert all(images.dtype == torch.float32 for images in first)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), "the same seed sees the same pictures"
    steps = len(first) // 2
    assert not torch.equal(torch.cat(first[:steps]).sort(0).values, torch.cat(first[steps:]).sort(0).values)


def test_saved_split_is_the_same_split(root: Path) -> None:
    for settings in ({"group_pattern": SEAM}, {"group_pattern": None, "groups": "per_image"}):
        data = from_folder(root, **settings)
        write_manifest(data.table, root.parent / "split.csv")
        again = from_manifest(root.parent / "split.csv")
        assert again.split_digest == data.split_digest
        assert again.validation_groups == data.validation_groups
        assert again.table.equals(data.table)
    assert from_folder(root, seed=7).split_digest != data.split_digest


def test_class_with_one_group_is_trained_only(root: Path) -> None:
    write_welds(root, ("undercut",), seams=[20])
    data = from_folder(root)
    assert count_by_split(data.table)["undercut"] == {"train": 2, "val": 0, "test": 0}


def test_a_checkpoints_classes_and_unsplit_data(root: Path) -> None:
    data = from_folder(root, group_pattern=None, classes=["undercut", "pore", "crack"], unsplit="test")
    assert data.classes == ["undercut", "pore", "crack"]
    assert data.splits() == ["test"]
    assert set(data.dataset("test").labels.tolist()) == {1, 2}
    with pytest.raises(InputError, match="the data hold the classes crack, which the checkpoint does not know"):
        from_folder(root, classes=["pore", "undercut"], unsplit="test")


def test_setup_happens_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = from_folder(root)
    table = data.table
    monkeypatch.setattr(Folder, "find", None)
    data.setup("fit")
    assert data.table is table


@pytest.mark.parametrize("cache", ["disk", "device"])
def test_batches_of_validation_hold_the_weld_of_each_image(root: Path, cache: str) -> None:
    data = from_folder(root, cache=cache)
    images, labels, groups = map(torch.cat, zip(*data.val_dataloader(), strict=True))
    table = data.samples("select")
    names = sorted(set(table["group"]))
    assert [names[index] for index in groups] == table["group"].to_list()
    assert [data.classes[label] for label in labels] == table["label"].to_list()
    assert len(images) == len(table)
    assert {len(batch) for batch in data.train_dataloader()} == {2}


def test_a_seed_of_the_data_keeps_images_and_splits_under_a_different_seed() -> None:
    first, second, third = (set_up(seed=seed, rule_seed=rule) for seed, rule in ((0, None), (1, 0), (1, None)))
    assert first.table.equals(second.table)
    assert first.split_digest == second.split_digest != third.split_digest
    labels = [torch.cat([labels for _, labels in data.train_dataloader()]).tolist() for data in (first, second)]
    assert labels[0] != labels[1]
    assert sorted(labels[0]) == sorted(labels[1])
