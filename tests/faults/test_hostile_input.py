"""Hostile manifests, folders and arguments: every command answers with exit code 0, 1 or 2, in bounds, in words.

The examples are the same each time; with --thorough they are many, and random (Hypothesis prints how to repeat one).
"""

import csv
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from drawing import write_welds
from fork_server import Done, ForkServer
from hostile_pieces import LABELS, NAMES, Entry, manifests, overrides, plant, trees
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from untrained import save_untrained

pytestmark = pytest.mark.slow

THOROUGH = bool(os.environ["THOROUGH"])
"""Hypothesis's settings are fixed before pytest has any fixture."""
LIMIT_S = 60.0
LIMIT_MB = 700.0
INTERNALS = r"Traceback|hydra\.(errors|core|_internal)|omegaconf|full_key|object_type|site-packages|Exception"
"""Words of libraries, in a message for people."""

IMAGES = [f"photos/{label}/seam{seam}_0.jpg" for label in LABELS for seam in range(4)]
DATA = ["data=folder", "data.root=photos", r"data.group_pattern=seam\d+"]
NETWORK = ["model.backbone=resnet18", "model.weights=none", "trainer=cpu", "callbacks.dashboard=null"]
TINY = [*NETWORK, "data.image_size.height=16", "data.image_size.width=8", "trainer.fast_dev_run=true"]
READERS = ("audit", "train", "predict")
EVERY_FILE: list[Entry] = [(("good", f"{name}.jpg"), "image") for name in NAMES]
EVERY_CLASS: list[Entry] = [((name, "a.jpg"), "image") for name in NAMES]
# So many folds are refused, but only once everything else has been checked.
FOLDS = [*DATA, *NETWORK, "num_folds=99"]


def hostile(examples: int) -> settings:
    return settings(
        max_examples=examples * (40 if THOROUGH else 1),
        derandomize=not THOROUGH,
        deadline=None,
        database=None,
        # To shrink takes minutes; the pieces are small as they are.
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


@dataclass(frozen=True)
class Home:
    """What all examples use: the fork server, a folder of welds, an untrained checkpoint, a cache."""

    forks: ForkServer
    folder: Path

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "model.ckpt"

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A current folder for one example, removed after it."""
        with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as place:
            yield Path(place)

    def check(self, here: Path, command: str, *arguments: str) -> Done:
        """Runs a command that may refuse, but must do so well."""
        before = set(here.rglob("*"))
        environment = {"WELDNET_CACHE": str(self.folder / "cache")}
        done = self.forks.run(here, command, *arguments, limit_s=LIMIT_S, environment=environment)
        outcome = f"weldnet-{command} {shlex.join(arguments)[:2000]}\nexit {done.code}: {done.err[-3000:]!r}"
        assert not done.over, f"over the bound of {done.over}: {outcome}"
        assert done.code in (0, 1, 2), outcome
        assert not re.search(INTERNALS, done.err), outcome
        assert done.growth_mb < LIMIT_MB, f"{done.growth_mb:.0f} MB: {outcome}"
        if done.code == 2:
            assert f"weldnet-{command}: " in done.err, outcome
            left = set(here.rglob("*")) - before
            # A run that has begun keeps its log; one that is refused leaves nothing.
            assert not left or any(path.name == "train.log" for path in left), f"{outcome}\nleft: {sorted(left)[:5]}"
        return done

    def predict(self, here: Path, source: str, out: Path) -> None:
        """Predicts from a source into an empty folder that lies outside of it."""
        done = self.check(here, "predict", f"ckpt_path={self.checkpoint}", f"source={source}", f"output_dir={out}")
        if done.code != 2:
            check_predictions(out)


@pytest.fixture(scope="module")
def home(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("hostile")
    write_welds(folder / "photos", LABELS, seams=range(4), shots=1)
    save_untrained(folder / "model.ckpt", LABELS, backbone="test_resnet")
    return Home(forks, folder)


def check_predictions(folder: Path) -> None:
    """Both files hold the same photographs, each once."""
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text("utf-8").split("\n")[:-1]]
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    paths = [line["path"] for line in lines]
    assert [row["path"] for row in rows] == paths
    assert len(set(paths)) == len(paths)


@hostile(7)
@given(content=manifests(IMAGES), command=st.sampled_from(READERS))
def test_manifests(home: Home, content: bytes, command: str) -> None:
    with home.place() as here, home.place() as out:
        shutil.copytree(home.photos, here / "photos")
        (here / "welds.csv").write_bytes(content)
        if command == "predict":
            home.predict(here, "welds.csv", out)
        else:
            data = ["data=manifest", "data.manifest=welds.csv"]
            home.check(here, command, *data, *(TINY if command == "train" else []))


@hostile(8)
@given(entries=trees(), root=st.sampled_from(["photos", *NAMES]), usual=st.booleans(), command=st.sampled_from(READERS))
@example(entries=EVERY_FILE, root="photos", usual=True, command="predict")
@example(entries=EVERY_FILE, root="photos", usual=True, command="audit")
@example(entries=EVERY_CLASS, root="photos", usual=False, command="audit")
def test_folders(home: Home, entries: list[Entry], root: str, usual: bool, command: str) -> None:
    with home.place() as here, home.place() as out:
        (here / root).mkdir(exist_ok=True)
        if usual:
            shutil.copytree(home.photos, here / root, dirs_exist_ok=True)
        plant(here / root, entries, home.photos / "good" / "seam0_0.jpg")
        if command == "predict":
            home.predict(here, root, out)
        else:
            data = ["data=folder", f"data.root={root}", "data.groups=per_image"]
            home.check(here, command, *data, *(TINY if command == "train" else []))


@hostile(16)
@given(typed=overrides(), command=st.sampled_from(["train", "train", "crossval", "test", "predict", "audit"]))
def test_arguments(home: Home, typed: list[str], command: str) -> None:
    checkpoint = f"ckpt_path={home.checkpoint}"
    working = {
        "train": [*DATA, *TINY],
        "crossval": FOLDS,
        "test": [checkpoint, *DATA, "split=all"],
        "predict": [checkpoint, "source=photos"],
        "audit": DATA,
    }
    with home.place() as here:
        os.symlink(home.photos, here / "photos")
        home.check(here, command, *working[command], *typed)
