"""Attribution: the evidence for a class as a heatmap over the photograph."""
