"""How Lightning writes and reads its checkpoints while training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins import TorchCheckpointIO

from weldnet.errors import InputError
from weldnet.files import find_damage
from weldnet.inference.checkpoint import write_checkpoint


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's checkpoints, written beside their target and verified when they are loaded.

    Lightning copies them from the folder for temporary files, and a kill meanwhile leaves neither old nor new one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        if Path(path).is_file() and (damage := find_damage(Path(path))):
            raise InputError(f"{path} is damaged: {damage}")
        content: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only)
        return content
