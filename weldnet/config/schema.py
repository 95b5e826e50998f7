"""What several commands take; what one takes stands in its file. Settings are declared beside the objects that they
configure, whose docstrings explain them."""

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from weldnet.data.settings import BatchSettings, Framing, ImageSettings, ImageSize, SplitRule
from weldnet.data.sources.source import SourceKeys
from weldnet.evaluation.settings import Targets
from weldnet.model.settings import ModelSettings

Node = dict[str, Any]
Settings = TypeVar("Settings")


@dataclass
class DataConfig(ImageSettings, BatchSettings, Framing, SplitRule, SourceKeys):
    """The settings of every source and of `weldnet.data.datamodule.WeldDataModule`, side by side.

    `_target_` is the class of the source; null in a test is the checkpoint's own.
    """

    _target_: str | None = None
    image_size: ImageSize = field(default_factory=ImageSize)


@dataclass
class ModelConfig(ModelSettings):
    """`_target_` is `weldnet.model.classifier.WeldClassifier`, or a class of yours that inherits from it."""

    _target_: str = MISSING
    backbone: str = MISSING


@dataclass
class EvaluationConfig:
    """See `weldnet.evaluation.judge` and `weldnet.data.sources.vocabulary`."""

    good_classes: list[str] | None = None
    vocabulary: str | None = None


@dataclass
class DecisionConfig:
    """See `weldnet.evaluation.settings.Targets`; null in a test keeps the checkpoint's own."""

    max_escape_rate: float | None = None
    max_false_reject_rate: float | None = None
    confidence: float | None = None


@dataclass
class OutputKeys:
    """Of every command."""

    output_dir: str | None = None


@dataclass
class SeedKeys:
    """Of a command that splits images."""

    seed: int = 0


@dataclass
class ModelKeys(OutputKeys):
    """Of a command that uses a checkpoint."""

    ckpt_path: str = MISSING


@dataclass
class RecipeConfig(OutputKeys, SeedKeys):
    """What is trained; the untyped nodes are checked against their targets."""

    ckpt_path: str | None = None
    test: bool = True
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: Node = field(default_factory=dict)
    scheduler: Node = field(default_factory=dict)
    trainer: Node = field(default_factory=dict)
    callbacks: Node = field(default_factory=dict)
    logger: Node = field(default_factory=dict)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    decision: DecisionConfig = field(default_factory=lambda: DecisionConfig(**asdict(Targets())))


@dataclass
class TrainConfig(RecipeConfig):
    """What `weldnet-train` takes: `seeds` trains this many times, on the same data and splits."""

    seeds: int | None = None


@dataclass
class CrossvalConfig(RecipeConfig):
    """What `weldnet-crossval` takes: the recipe, and the number of folds."""

    num_folds: int = 5


def register_schema(command: str, schema: type) -> None:
    """Makes the schema of a command known to Hydra; its root config lists it first."""
    ConfigStore.instance().store(name=f"{command}_schema", node=schema)


def take(kind: type[Settings], keys: Any) -> Settings:
    """The settings of a kind, from the keys of the same names."""
    assert is_dataclass(kind)
    settings: Settings = kind(**{each.name: getattr(keys, each.name) for each in fields(kind)})
    return settings
