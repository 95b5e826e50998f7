"""The settings of the network and of how it learns; importing them costs nothing."""

from dataclasses import dataclass


@dataclass
class ModelSettings:
    """The network, and how it learns.

    Attributes:
        backbone, weights, zero_init_residual: see `weldnet.model.network.make_backbone`.
        channels_last: see `weldnet.model.network.WeldNet`.
        freeze_through: the last stage that does not learn, None for none.
        unfreeze_at_epoch: the epoch, counted from 0, from which every stage learns; None for never.
        layer_decay: see `weldnet.model.optimizers.parameter_groups`.
        label_smoothing: from 0 to 1.
        cuda_graphs: whether training replays a CUDA graph, see `weldnet.model.cuda_graph.GraphedStep`: `on`, `off`, or
            `auto`, which is on wherever it can be.
    """

    backbone: str
    weights: str = "default"
    channels_last: bool = True
    zero_init_residual: bool = False
    freeze_through: str | None = None
    unfreeze_at_epoch: int | None = None
    layer_decay: float = 1.0
    label_smoothing: float = 0.0
    cuda_graphs: str = "auto"
