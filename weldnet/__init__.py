"""weldnet: fine-tune a ResNet50 on weld photographs and prove what the result is worth on welds it has never seen."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weldnet.data.datamodule import WeldDataModule as WeldDataModule
    from weldnet.explain.attribution import explain_images as explain_images
    from weldnet.export.exporter import export_model as export_model
    from weldnet.inference.checkpoint import load_checkpoint as load_checkpoint
    from weldnet.inference.evaluate import evaluate as evaluate
    from weldnet.inference.predictor import Predictor as Predictor
    from weldnet.model.classifier import WeldClassifier as WeldClassifier
    from weldnet.model.network import WeldNet as WeldNet
    from weldnet.report.writer import write_report as write_report
    from weldnet.training.fit import calibrate as calibrate

    __version__: str

_MODULES = {
    "WeldClassifier": "model.classifier",
    "WeldDataModule": "data.datamodule",
    "WeldNet": "model.network",
    "Predictor": "inference.predictor",
    "calibrate": "training.fit",
    "evaluate": "inference.evaluate",
    "explain_images": "explain.attribution",
    "export_model": "export.exporter",
    "load_checkpoint": "inference.checkpoint",
    "write_report": "report.writer",
}
"""Where each public name is; imported when it is used, so that `import weldnet` costs nothing."""

__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("weldnet")
    if name not in _MODULES:
        raise AttributeError(f"module 'weldnet' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"weldnet.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
