"""The settings of a heatmap."""

from dataclasses import dataclass


@dataclass
class HeatmapSettings:
    """How a heatmap is drawn.

    Attributes:
        method: one of `weldnet.explain.attribution.METHODS`.
        layer: one of the backbone's `layers`, None for its own; integrated gradients ignore it.
        target: the class to look for; None for the predicted one of each photograph.
    """

    method: str = "hires_cam"
    layer: str | None = None
    target: str | None = None
