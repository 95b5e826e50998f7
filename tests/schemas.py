"""What each command takes."""

from weldnet.commands.audit import AuditConfig
from weldnet.commands.explain import ExplainConfig
from weldnet.commands.export import ExportConfig
from weldnet.commands.predict import PredictConfig
from weldnet.commands.serve import ServeConfig
from weldnet.commands.sweep import SweepConfig
from weldnet.commands.test import TestConfig
from weldnet.config.schema import CrossvalConfig, TrainConfig

SCHEMAS: dict[str, type] = {
    "train": TrainConfig,
    "crossval": CrossvalConfig,
    "sweep": SweepConfig,
    "test": TestConfig,
    "audit": AuditConfig,
    "predict": PredictConfig,
    "explain": ExplainConfig,
    "export": ExportConfig,
    "serve": ServeConfig,
}
