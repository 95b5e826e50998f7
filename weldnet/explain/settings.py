"""The settings of a heatmap."""

from dataclasses import dataclass


@dataclass
class HeatmapSettings:
    """How a heatmap is drawn; see `weldnet.report.explained.explain_files`."""

    method: str = "hires_cam"
    layer: str | None = None
    target: str | None = None
