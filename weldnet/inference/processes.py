"""Several processes that share one task, as torchrun starts them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

MAX_WAIT = timedelta(days=7)
"""How long a process that is done waits for the others."""


@dataclass(frozen=True)
class Share:
    """The share of the work that this process does: every `world`-th image, from the `rank`-th on."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def of_torchrun(cls) -> "Share":
        """The share by torchrun's environment variables; without them, all of the work."""
        values = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
        return cls(*map(int, values)) if all(value.isdecimal() for value in values) else cls()

    def choose_device(self, device: str) -> str:
        """`auto` as this process's own GPU, where there are several processes and GPUs; else `device` as it is."""
        if self.world == 1 or device != "auto":
            return device
        import torch

        return f"cuda:{self.local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else device

    @contextmanager
    def together(self) -> Iterator[Callable[[Any], list[Any]]]:
        """A context with a function that waits until every process has called it, and returns all their arguments."""
        if self.world == 1:
            yield lambda value: [value]
            return
        # One process needs no torch; torchrun comes with it.
        import torch.distributed

        def gather(value: Any) -> list[Any]:
            values = [None] * self.world
            torch.distributed.all_gather_object(values, value)
            return values

        torch.distributed.init_process_group("gloo", timeout=MAX_WAIT)
        try:
            yield gather
        finally:
            torch.distributed.destroy_process_group()


ALONE = Share()
