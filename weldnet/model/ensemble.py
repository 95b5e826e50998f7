"""Ensemble: several networks whose probabilities are averaged, as one network."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from weldnet.model.network import WeldNet


class Ensemble(WeldNet):
    """K networks of one architecture, whose probability is the mean of theirs; its features are theirs, in a row.

    Not the mean of their logits: where members see different defects, that would multiply each defect's probabilities
    away and leave the sound class. Each member's last layer holds its temperature.
    """

    members: Sequence[WeldNet]

    def __init__(self, members: Sequence[WeldNet]) -> None:
        first, sizes = members[0], [member.backbone.num_features for member in members]
        stages = {
            stage: [f"{number}.{name}" for number in range(len(members)) for name in names]
            for stage, names in first.backbone.stages.items()
        }
        backbone = replace(
            first.backbone,
            name=f"an ensemble of {len(members)} {first.backbone.name}",
            module=_Trunks(member.trunk for member in members),
            num_features=sum(sizes),
            stages=stages,
            # Each network would need ranges and thresholds of its own.
            supports_int8=False,
        )
        super().__init__(backbone, first.head.out_features, channels_last=first.channels_last)
        self.head = _Heads([member.head for member in members], sizes)  # type: ignore[assignment]
        self.members = nn.ModuleList(members)  # type: ignore[assignment]


class _Trunks(nn.ModuleList):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([trunk(x) for trunk in self], dim=1)


class _Heads(nn.Module):
    """From features (B, K * F) to logits (B, C), the logs of the mean probabilities."""

    def __init__(self, heads: Sequence[nn.Linear], sizes: Sequence[int]) -> None:
        super().__init__()
        self.heads, self.sizes = nn.ModuleList(heads), list(sizes)

    def forward(self, features: Tensor) -> Tensor:
        parts = zip(self.heads, torch.split(features, self.sizes, dim=1), strict=True)
        logs = torch.stack([head(part).log_softmax(dim=1) for head, part in parts])
        return logs.logsumexp(dim=0) - math.log(len(self.heads))
