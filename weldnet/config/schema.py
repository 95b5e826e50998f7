"""What each command takes. Settings are declared beside the objects that they configure, whose docstrings explain
them."""

from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from weldnet.data.settings import BatchSettings, Framing, ImageSettings, ImageSize, SplitRule
from weldnet.data.sources.source import SourceKeys
from weldnet.evaluation.settings import Targets
from weldnet.explain.settings import HeatmapSettings
from weldnet.export.settings import Bounds, Int8Settings
from weldnet.inference.settings import DeviceSettings, EngineSettings
from weldnet.model.settings import ModelSettings
from weldnet.serve.limits import ServeSettings

Node = dict[str, Any]


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
    """See `weldnet.evaluation.judge` and `weldnet.evaluation.vocabulary`."""

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
class TrainConfig(OutputKeys, SeedKeys):
    """What `weldnet-train` takes; the untyped nodes are checked against their targets."""

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
class CrossvalConfig(TrainConfig):
    """What `weldnet-crossval` takes: all that `weldnet-train` takes, and the number of folds."""

    num_folds: int = 5


@dataclass
class TestConfig(DeviceSettings, ModelKeys):
    """What `weldnet-test` takes."""

    split: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)


@dataclass
class AuditSettings:
    """See `weldnet.commands.audit`."""

    suggest_split: str | None = None


@dataclass
class AuditConfig(OutputKeys, SeedKeys):
    """What `weldnet-audit` takes."""

    data: DataConfig = field(default_factory=DataConfig)
    audit: AuditSettings = field(default_factory=AuditSettings)


@dataclass
class PredictConfig(EngineSettings, ModelKeys):
    """What `weldnet-predict` takes; see `weldnet.inference.prediction_run`."""

    source: str = MISSING
    resume: bool = False
    explain: str = "none"
    sort_into: str | None = None


@dataclass
class ExplainConfig(DeviceSettings, HeatmapSettings, ModelKeys):
    """What `weldnet-explain` takes."""

    source: str = MISSING


@dataclass
class ExportSettings(Int8Settings, Bounds):
    """Of the gate and of int8."""


@dataclass
class ExportConfig(ModelKeys):
    """What `weldnet-export` takes."""

    format: str = MISSING
    data: DataConfig = field(default_factory=DataConfig)
    export: ExportSettings = field(default_factory=ExportSettings)


@dataclass
class ServeConfig(EngineSettings, ModelKeys):
    """What `weldnet-serve` takes."""

    host: str = "127.0.0.1"
    port: int = 8000
    serve: ServeSettings = field(default_factory=ServeSettings)


SCHEMAS = {
    "train": TrainConfig,
    "crossval": CrossvalConfig,
    "test": TestConfig,
    "audit": AuditConfig,
    "predict": PredictConfig,
    "explain": ExplainConfig,
    "export": ExportConfig,
    "serve": ServeConfig,
}


@cache
def register_schemas() -> None:
    """Makes the schemas known to Hydra; each root config lists its own first."""
    for command, schema in SCHEMAS.items():
        ConfigStore.instance().store(name=f"{command}_schema", node=schema)
