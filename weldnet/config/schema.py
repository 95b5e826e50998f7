"""The types of our own settings. The docstrings of the objects they build say what each means."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

Node = dict[str, Any]


@dataclass
class ImageSizeConfig:
    height: int = 300
    width: int = 30


@dataclass
class SharesConfig:
    train: float = 0.7
    val: float = 0.15
    test: float = 0.15


@dataclass
class DataConfig:
    """See `weldnet.data.datamodule.WeldDataModule` and `weldnet.data.decode.images.Geometry`."""

    source: str = MISSING
    root: str | None = None
    manifest: str | None = None
    group_pattern: str | None = None
    groups: str | None = None
    shares: SharesConfig = field(default_factory=SharesConfig)
    num_folds: int | None = None
    fold: int | None = None
    allow_leak: bool = False
    image_size: ImageSizeConfig = field(default_factory=ImageSizeConfig)
    resize: str = "stretch"
    orient: str = "as_is"
    window: Any = "full"
    batch_size: int = 32
    balance: str = "none"
    augmentation: str = "none"
    mixup: float = 0.0
    cutmix: float = 0.0
    on_unreadable: str = "stop"
    num_images: int = 1500
    num_seams: int = 50
    cache: str = "disk"
    num_workers: int | None = None
    cache_dir: str | None = None


@dataclass
class ModelConfig:
    """See `weldnet.model.network.make_backbone`, `WeldNet` and `weldnet.model.classifier.WeldClassifier`."""

    backbone: str = MISSING
    weights: str = "default"
    channels_last: bool = True
    zero_init_residual: bool = False
    freeze_through: str | None = None
    unfreeze_at_epoch: int | None = None
    layer_decay: float = 1.0
    label_smoothing: float = 0.0


@dataclass
class EvaluationConfig:
    """See `weldnet.evaluation.judge` and `weldnet.evaluation.vocabulary`."""

    good_classes: list[str] | None = None
    vocabulary: str | None = None


@dataclass
class DecisionConfig:
    """See `weldnet.evaluation.decision.OperatingPoint`; null in a test keeps the checkpoint's own."""

    max_escape_rate: float | None = None
    max_false_reject_rate: float | None = None
    confidence: float | None = None


@dataclass
class TrainConfig:
    """What `weldnet-train` takes; the untyped nodes are checked against their targets."""

    seed: int = 0
    output_dir: str | None = None
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
    decision: DecisionConfig = field(default_factory=lambda: DecisionConfig(0.05, 0.05, 0.95))


@dataclass
class CrossvalConfig(TrainConfig):
    """What `weldnet-crossval` takes: all that `weldnet-train` takes, and the number of folds."""

    num_folds: int = 5


@dataclass
class TestConfig:
    """What `weldnet-test` takes."""

    ckpt_path: str = MISSING
    output_dir: str | None = None
    split: str | None = None
    device: str = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)


@dataclass
class AuditSettings:
    """See `weldnet.commands.audit`."""

    suggest_split: str | None = None


@dataclass
class AuditConfig:
    """What `weldnet-audit` takes."""

    seed: int = 0
    output_dir: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    audit: AuditSettings = field(default_factory=AuditSettings)


@dataclass
class PredictConfig:
    """What `weldnet-predict` takes; see `weldnet.inference.prediction_run`."""

    ckpt_path: str = MISSING
    source: str = MISSING
    output_dir: str | None = None
    resume: bool = False
    explain: str = "none"
    sort_into: str | None = None
    device: str = "auto"
    precision: str = "float32"


@dataclass
class ExplainConfig:
    """What `weldnet-explain` takes; see `weldnet.report.explained`."""

    ckpt_path: str = MISSING
    source: str = MISSING
    output_dir: str | None = None
    method: str = "hires_cam"
    layer: str | None = None
    target: str | None = None
    device: str = "auto"


@dataclass
class ExportSettings:
    """The gate, see `weldnet.export.parity.Bounds`; and `weldnet.export.quantization.Int8Settings`."""

    max_probability_error: float = 1e-3
    max_accuracy_drop: float = 0.01
    max_escape_increase: float = 0.01
    max_verdict_changes: float = 0.05
    num_calibration_images: int = 300
    float_through: str = "stem"


@dataclass
class ExportConfig:
    """What `weldnet-export` takes."""

    ckpt_path: str = MISSING
    format: str = MISSING
    output_dir: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    export: ExportSettings = field(default_factory=ExportSettings)


@dataclass
class ServeSettings:
    """A served model's limits, see `weldnet.serve.limits.Limits`, its names, and where its decisions are recorded."""

    max_body_mb: float = 64.0
    max_images: int = 64
    max_megapixels: float = 50.0
    max_queue: int = 64
    request_timeout_s: float = 30.0
    hosts: list[str] = field(default_factory=list)
    records: str | None = None


@dataclass
class ServeConfig:
    """What `weldnet-serve` takes."""

    ckpt_path: str = MISSING
    host: str = "127.0.0.1"
    port: int = 8000
    output_dir: str | None = None
    device: str = "auto"
    precision: str = "float32"
    serve: ServeSettings = field(default_factory=ServeSettings)


@cache
def register_schemas() -> None:
    """Makes the schemas known to Hydra; each root config lists its own first."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="test_schema", node=TestConfig)
    store.store(name="crossval_schema", node=CrossvalConfig)
    store.store(name="audit_schema", node=AuditConfig)
    store.store(name="predict_schema", node=PredictConfig)
    store.store(name="explain_schema", node=ExplainConfig)
    store.store(name="export_schema", node=ExportConfig)
    store.store(name="serve_schema", node=ServeConfig)
