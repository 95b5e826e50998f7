"""The source `data=manifest`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weldnet.data.sources.source import Grouping
from weldnet.errors import InputError

if TYPE_CHECKING:
    from weldnet.data.sources.found import Found


@dataclass
class Manifest(Grouping):
    """A table of photographs.

    Attributes:
        manifest: the CSV file.
    """

    manifest: str | None = None

    def find(self, seed: int, cache: Path) -> "Found":
        """See `weldnet.data.sources.manifest.read_manifest`."""
        from weldnet.data.sources.found import Found
        from weldnet.data.sources.manifest import read_rows

        if self.manifest is None:
            raise InputError("data=manifest needs data.manifest=FILE.csv")
        file = Path(os.path.abspath(self.manifest))
        table = read_rows(file)
        return Found(self.add_groups(table.drop("row"), file), file, file.parent, table["row"])
