"""weldnet: fine-tune a ResNet50 on weld photographs and prove what the result is worth on welds it has never seen."""

from importlib.metadata import version

__version__ = version("weldnet")
