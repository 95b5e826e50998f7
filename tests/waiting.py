"""Callbacks that find what in a step waits for a device: on a CPU by the operations, on a GPU by torch's own check."""

import traceback
from collections import Counter
from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC2701 (torch documents it under this name)

from weldnet.data.datamodule import WeldDataModule

READS = (
    "aten::_local_scalar_dense",
    "aten::_unique",
    "aten::_unique2",
    "aten::bincount",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_consecutive",
    "aten::unique_dim",
)
"""Operations whose result, or its shape, the CPU must know before it continues."""

MASKED = ("aten::index", "aten::index_put", "aten::index_put_")
"""These wait where an index is a mask."""

FIRST_STEP = 2
"""Before it the average is copied, states are made and graphs are captured."""


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operation that waits, with where it was called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name
        masks = [each for each in args[1] if each is not None and each.dtype == torch.bool] if name in MASKED else []
        if name in READS or masks:
            calls = [frame for frame in traceback.extract_stack()[:-1] if "/torch/" not in frame.filename][-3:]
            self.found[f"{name}: " + " < ".join(f"{f.filename}:{f.lineno}" for f in reversed(calls))] += 1
        return function(*args, **(kwargs or {}))


class CountReads(Callback):
    """Counts them from a batch's arrival on the device until all other callbacks have seen its end."""

    found: ClassVar[Counter[str]] = Counter()
    num_steps: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        self.reads: Reads | None = None
        self.found.clear()
        self.num_steps.clear()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, WeldDataModule)
        augment = data.on_after_batch_transfer

        def count(batch: Any, dataloader_idx: int) -> Any:
            if trainer.global_step >= FIRST_STEP:
                self.reads = Reads()
                self.reads.__enter__()  # type: ignore[no-untyped-call]
            return augment(batch, dataloader_idx)

        data.on_after_batch_transfer = count  # type: ignore[method-assign]

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.finish("train")

    def on_validation_batch_end(self, *arguments: Any) -> None:
        self.finish("validation")

    def finish(self, stage: str) -> None:
        if self.reads is not None:
            self.reads.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self.found.update(self.reads.found)
            self.num_steps[stage] += 1
            self.reads = None


class ForbidWaits(Callback):
    """On a GPU a wait in a step is an error, from the fourth step of an epoch to its last one."""

    num_steps = 0

    def __init__(self) -> None:
        type(self).num_steps = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        is_watched = batch_idx >= 2 and not trainer.is_last_batch
        torch.cuda.set_sync_debug_mode("error" if is_watched else "default")
        type(self).num_steps += is_watched
