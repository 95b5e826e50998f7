"""The configs that weldnet ships, and the check of `_target_` nodes."""

import inspect
import json
from dataclasses import dataclass, fields
from pathlib import Path

import hydra
import polars as pl
import pytest
from lightning import Trainer
from omegaconf import OmegaConf

from weldnet.config.arguments import show_options
from weldnet.config.build import build_data, build_trainer, check_nodes
from weldnet.config.schema import TrainConfig, register_schema
from weldnet.config.targets import check_target
from weldnet.config.trusted import check_trusted
from weldnet.data.augmentation import BatchAugmentation, Strengths
from weldnet.data.sources.found import Found
from weldnet.data.sources.manifest import SCHEMA
from weldnet.data.sources.source import PATHS, Manifest, SourceKeys
from weldnet.errors import InputError
from weldnet.model.classifier import WeldClassifier

V2 = "torchvision.transforms.v2"
CONFIGS = Path(__file__).parents[2] / "configs"


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def test_every_trainer_argument_needs_no_plus() -> None:
    listed = set(OmegaConf.load(CONFIGS / "trainer" / "auto.yaml")) - {"_target_"}
    given = {"logger", "callbacks", "default_root_dir"}
    assert listed == set(inspect.signature(Trainer).parameters) - given


@pytest.mark.parametrize(
    "override",
    [
        f"{group}={name}"
        for group in ("experiment", "optimizer", "scheduler", "trainer", "callbacks", "logger", "model")
        for name in names(group)
    ],
)
def test_every_option_composes_and_fits_its_target(override: str) -> None:
    register_schema("train", TrainConfig)
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        cfg = hydra.compose("train", [override])
    cfg.output_dir = "here"
    if override == "model=timm":
        cfg.model.backbone = "test_resnet"
    check_nodes(cfg)
    assert cfg.trainer.precision in ("32-true", "bf16-mixed")


def test_an_optimizer_of_your_own_needs_no_more_than_its_class() -> None:
    register_schema("train", TrainConfig)
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        cfg = hydra.compose("train")
    cfg.output_dir = "here"
    cfg.optimizer = {"_target_": "torch.optim.RMSprop", "lr": 1e-3}
    check_nodes(cfg)
    cfg.optimizer = {"_target_": "torch.optim.RMSprop", "lr": 1e-3, "momentum": -1.0}
    with pytest.raises(InputError, match=r"^optimizer or scheduler: .*momentum"):
        check_nodes(cfg)


OF_PLUGIN = "{_target_: lightning.pytorch.plugins.MixedPrecision, precision: bf16-mixed, device: cpu}"


@pytest.mark.filterwarnings("ignore:You passed .*precision='16-mixed'")
@pytest.mark.parametrize(
    ("typed", "recorded"),
    [
        (["trainer.precision=16-mixed"], "bf16-mixed"),
        (["trainer.precision=null", f"trainer.plugins={OF_PLUGIN}"], None),
    ],
)
def test_the_precision_that_computes_is_recorded(typed: list[str], recorded: str | None, tmp_path: Path) -> None:
    register_schema("train", TrainConfig)
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        cfg = hydra.compose("train", ["trainer=cpu", *typed, "logger.tensorboard=null"])
    # A run whose validation has no images of its own builds its trainer twice; a resumed one, from the record.
    for _ in range(2):
        assert build_trainer(cfg, tmp_path).precision == "bf16-mixed"
        assert cfg.trainer.precision == recorded


def test_a_progress_bar_of_one_s_own_is_shown_without_a_terminal(tmp_path: Path) -> None:
    register_schema("train", TrainConfig)
    own = "+callbacks.bar._target_=lightning.pytorch.callbacks.TQDMProgressBar"
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        cfg = hydra.compose("train", ["trainer=cpu", "trainer.precision=32", own, "logger.tensorboard=null"])
    assert type(build_trainer(cfg, tmp_path).progress_bar_callback).__name__ == "TQDMProgressBar"


def test_the_origin_is_to_the_letter() -> None:
    register_schema("train", TrainConfig)
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        cfg = hydra.compose("train", ["experiment=origin"])
    assert (cfg.model.backbone, cfg.model.weights, cfg.model.channels_last) == ("resnet50", "IMAGENET1K_V1", False)
    assert (cfg.optimizer._target_, cfg.optimizer.lr) == ("torch.optim.Adam", 0.001)
    assert not cfg.scheduler
    assert (cfg.trainer.max_epochs, cfg.trainer.precision) == (10, "32-true")
    assert (cfg.data.image_size, cfg.data.resize, cfg.data.batch_size) == ({"height": 300, "width": 30}, "stretch", 32)
    assert (cfg.data.augmentation, cfg.data.balance, cfg.model.label_smoothing) == ("none", "none", 0.0)
    assert "best" not in cfg.callbacks


@dataclass
class Listing(Manifest):
    """A source of your own: a JSON object of labels by file name, below `data.manifest`."""

    def find(self, seed: int, cache: Path) -> Found:
        assert self.manifest is not None
        file = Path(self.manifest)
        rows = [(str(file.parent / name), label, None, None) for name, label in json.loads(file.read_text()).items()]
        table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
        return Found(self.add_groups(table, file), file, file.parent)


def test_a_source_of_your_own_is_a_class_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("_target_: test_build.Listing\n")
    (tmp_path / "labels.json").write_text('{"weld1_a.jpg": "good", "weld2_a.jpg": "pore"}')
    register_schema("train", TrainConfig)
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        typed = [f"data.manifest={tmp_path}/labels.json", "data.group_pattern=weld.", f"data.cache_dir={tmp_path}"]
        cfg = hydra.compose("train", ["data=mine", *typed, f"hydra.searchpath=['file://{tmp_path}']"])
    table = build_data(cfg.data, cfg.seed).find().table
    assert table["path"].to_list() == [f"{tmp_path}/weld1_a.jpg", f"{tmp_path}/weld2_a.jpg"]
    assert table["group"].to_list() == ["weld1", "weld2"]


def test_single_changes_are_ordinary_keys(tmp_path: Path) -> None:
    register_schema("train", TrainConfig)
    node = {"_target_": "weldnet.data.augmentation.Strengths", "flip": 0.5, "convolution": 0.3}
    typed = [f"+data.augmentation.{key}={value}" for key, value in node.items()]
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        cfg = hydra.compose("train", typed)
    augment = build_data(cfg.data, cfg.seed).augment
    assert isinstance(augment, BatchAugmentation)
    assert augment.strengths == Strengths(flip=0.5, convolution=0.3)
    check_trusted({"data": {"augmentation": node}}, tmp_path, [])
    cfg.data.augmentation = {**node, "flips": 0.5}
    with pytest.raises(InputError, match=r"data\.augmentation\.flips: .*did you mean 'flip'"):
        build_data(cfg.data, cfg.seed)


def test_the_keys_are_those_of_every_source() -> None:
    nodes = [OmegaConf.load(CONFIGS / "data" / f"{name}.yaml") for name in names("data")]
    targets = [str(OmegaConf.select(node, "_target_")) for node in nodes]
    assert {*map(hydra.utils.get_class, targets)} == {*SourceKeys.__bases__}
    assert {*PATHS} <= {each.name for each in fields(SourceKeys)}
    assert show_options("data") == f"data: {', '.join(names('data'))}"


class Focal(WeldClassifier):
    """A module of one's own."""


def test_a_module_of_ones_own_is_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    register_schema("train", TrainConfig)
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        cfg = hydra.compose("train", ["model=resnet18", "model._target_=test_build.Focal"])
    cfg.output_dir = "here"
    check_nodes(cfg)
    cfg.model._target_ = "torch.nn.Linear"
    with pytest.raises(InputError, match=r"model\._target_=torch\.nn\.Linear is no weldnet"):
        check_nodes(cfg)


@pytest.mark.parametrize("target", ["weldnet.data.sources.source.Source", "torch.nn.Flatten", "os.listdir"])
def test_what_is_no_source_is_refused(target: str) -> None:
    with pytest.raises(InputError, match=rf"data\._target_={target} is no source"):
        build_data(OmegaConf.create({"_target_": target}), 0)


@pytest.mark.parametrize(("key", "reader"), [("root", "folder"), ("manifest", "manifest"), ("group_pattern", "folder")])
def test_a_key_of_a_different_source_is_refused(key: str, reader: str) -> None:
    node = OmegaConf.create({"_target_": "weldnet.data.sources.source.Synthetic", key: "x"})
    with pytest.raises(InputError, match=rf"data\.{key} is not .*data={reader}"):
        build_data(node, 0)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"_target_": "torch.optim.AdamW", "lr": "abc"}, "x.lr=abc"),
        ({"_target_": "torch.optim.AdamW", "lrr": 1}, "did you mean 'lr'"),
        ({"_target_": "torch.optim.Nothing"}, "cannot be imported"),
        ({"_target_": "lightning.Trainer", "profiler": {"_target_": "torch.optim.AdamW", "epz": 1}}, "x.profiler.epz"),
        (
            {"_target_": f"{V2}.Compose", "transforms": [{"_target_": f"{V2}.RandomInvert", "q": 1}]},
            "x.transforms.0.q",
        ),
    ],
)
def test_a_wrong_node_is_named(node: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        check_target("x", OmegaConf.create(node))


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "torch.optim.AdamW", "lr": 1, "betas": [0.9, 0.99]},
        {"_target_": "lightning.Trainer", "devices": "auto", "max_time": "00:01:00:00", "precision": 32},
        {"_target_": "lightning.Trainer", "devices": [0], "max_epochs": None},
        {"_target_": f"{V2}.Compose", "transforms": [{"_target_": f"{V2}.RandomInvert", "p": 0.1}]},
    ],
)
def test_a_right_node_passes(node: dict[str, object]) -> None:
    check_target("x", OmegaConf.create(node))
