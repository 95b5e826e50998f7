"""Attribution: how much each pixel contributes to a class, as a heatmap over the photograph."""
