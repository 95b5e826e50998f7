"""A path without a key stands for the key that a command takes it by."""

from pathlib import Path

import pytest
from calling import call, refuse
from drawing import write_welds

from weldnet.config.bare_paths import name_paths
from weldnet.errors import InputError

FOLDER = ["data=folder", "data.root=photos"]


@pytest.fixture
def here(here: Path) -> Path:
    (here / "photos").mkdir()
    (here / "welds.csv").touch()
    return here


@pytest.mark.parametrize(
    ("command", "typed", "named"),
    [
        ("train", ["photos", "seed=1"], [*FOLDER, "seed=1"]),
        ("train", ["-m", "seed=1,2", "photos"], ["-m", "seed=1,2", *FOLDER]),
        ("crossval", ["photos/"], ["data=folder", "data.root=photos/"]),
        ("audit", ["welds.csv"], ["data=manifest", "data.manifest=welds.csv"]),
        ("predict", ["photos", "ckpt_path=best"], ["source=photos", "ckpt_path=best"]),
        ("explain", ["welds.csv"], ["source=welds.csv"]),
        ("test", ["photos"], ["ckpt_path=photos"]),
        ("export", ["photos"], ["ckpt_path=photos"]),
        ("serve", ["photos"], ["ckpt_path=photos"]),
        # The value of an option, what is not there, and what has a key.
        ("train", ["--config-dir", "photos"], ["--config-dir", "photos"]),
        ("train", ["photo", "~data", "+photos=1"], ["photo", "~data", "+photos=1"]),
    ],
)
def test_a_path_gets_its_key(here: Path, command: str, typed: list[str], named: list[str]) -> None:
    assert name_paths(command, typed) == named


@pytest.mark.parametrize(
    ("command", "message"),
    [("predict", "a glob in quotes: '.+/*'"), ("train", "type one folder")],
)
def test_several_paths_are_refused(here: Path, command: str, message: str) -> None:
    with pytest.raises(InputError, match=r"2 paths without a key, photos and welds\.csv"):
        name_paths(command, ["photos", "welds.csv"])


def test_a_folder_is_audited(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_welds(here / "photos", ("good", "pore"), seams=range(4))
    call("audit", "photos", "data.group_by=prefix:1", "output_dir=a")
    assert (here / "a" / "audit.html").is_file()
    message = refuse(capsys, "audit", "phtos")
    assert "'phtos' is neither a file or folder nor key=value" in message
    assert "data.root is not read by data=manifest" in refuse(capsys, "audit", "photos", "data=manifest")
