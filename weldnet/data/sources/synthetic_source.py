"""The source `data=synthetic`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weldnet.data.sources.found import Found


@dataclass
class Synthetic:
    """Drawn welds, which need no download.

    Attributes:
        num_images: photographs in all.
        num_seams: welds, each of which shows every class.
    """

    num_images: int = 1500
    num_seams: int = 50

    def find(self, seed: int, cache: Path) -> "Found":
        """Draws the set, unless it is there; see `weldnet.synthetic.drawn_set.write_synthetic`."""
        from weldnet.data.sources.found import Found
        from weldnet.data.sources.manifest import read_manifest
        from weldnet.synthetic.drawn_set import DRAWING_VERSION, write_synthetic

        name = f"drawing_{DRAWING_VERSION}_{self.num_images}_images_{self.num_seams}_seams_seed_{seed}"
        folder = cache / "synthetic" / name
        return Found(
            read_manifest(write_synthetic(folder, num_images=self.num_images, num_seams=self.num_seams, seed=seed))
        )
