"""The source `data=folder`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weldnet.data.sources.source import Grouping
from weldnet.errors import InputError

if TYPE_CHECKING:
    from weldnet.data.sources.found import Found


@dataclass
class Folder(Grouping):
    """A folder of classes, or of splits of classes.

    Attributes:
        root: the folder.
    """

    root: str | None = None

    def find(self, seed: int, cache: Path) -> "Found":
        """See `weldnet.data.sources.folders.scan_folder`."""
        from weldnet.data.sources.discovery import Skipped
        from weldnet.data.sources.folders import scan_folder
        from weldnet.data.sources.found import Found

        if self.root is None:
            raise InputError("data=folder needs data.root=DIR")
        root, skipped = Path(os.path.abspath(self.root)), Skipped()
        table = scan_folder(root, skipped)
        return Found(self.add_groups(table, root), root, root, skipped=skipped)
