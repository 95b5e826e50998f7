"""What is typed as Hydra takes it, and the help that says what can be typed."""

import io
import re
import textwrap
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from calling import call, exit_code, refuse
from drawing import write_welds
from omegaconf import OmegaConf

from weldnet.config.arguments import name_paths
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
        # A run that resumes keeps its source.
        ("train", ["photos", "ckpt_path=last"], ["data.root=photos", "ckpt_path=last"]),
        ("crossval", ["welds.csv", "ckpt_path=run"], ["data.manifest=welds.csv", "ckpt_path=run"]),
        ("train", ["photos", "ckpt_path=null"], [*FOLDER, "ckpt_path=null"]),
        ("predict", ["photos", "ckpt_path=best"], ["source=photos", "ckpt_path=best"]),
        ("explain", ["welds.csv"], ["source=welds.csv"]),
        ("test", ["photos"], ["ckpt_path=photos"]),
        ("export", ["photos"], ["ckpt_path=photos"]),
        ("serve", ["photos"], ["ckpt_path=photos"]),
        # The value of an option, what is not there, and what has a key.
        ("train", ["--config-dir", "photos"], ["--config-dir", "photos"]),
        ("train", ["-cd", "photos", "photos", "seed=1"], ["-cd", "photos", *FOLDER, "seed=1"]),
        ("train", ["photo", "~data", "+photos=1"], ["photo", "~data", "+photos=1"]),
    ],
)
def test_a_path_gets_its_key(here: Path, command: str, typed: list[str], named: list[str]) -> None:
    assert name_paths(command, typed) == named


@pytest.mark.parametrize("path", ["~/photos", "./a=b", "x,y [1]", "Nähte"])
def test_odd_paths_get_their_key(here: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("HOME", str(here))
    Path(path).expanduser().mkdir(exist_ok=True)
    assert name_paths("train", [path]) == ["data=folder", f"data.root={path}"]


@pytest.mark.parametrize("entries", [["model.json"], ["config.yaml", "checkpoints"]])
@pytest.mark.parametrize("command", ["train", "crossval", "audit", "predict", "explain"])
def test_a_run_is_no_photographs(here: Path, command: str, entries: list[str]) -> None:
    (here / "run").mkdir()
    for entry in entries:
        (here / "run" / entry).touch()
    with pytest.raises(InputError, match="run is a run or an export, not photographs; type ckpt_path=run"):
        name_paths(command, ["photos", "run"])
    assert name_paths("test", ["run"]) == ["ckpt_path=run"]


@pytest.mark.parametrize("name", ["weld.jpg", "weld"])
def test_a_photograph_is_no_source_of_training(here: Path, name: str) -> None:
    (here / name).write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match=f"^{name} is one photograph; type the folder"):
        name_paths("train", [name])
    assert name_paths("predict", [name]) == [f"source={name}"]


@pytest.mark.parametrize(("command", "key"), [("train", "data.root"), ("predict", "source"), ("serve", "ckpt_path")])
def test_a_path_and_its_key_are_refused(here: Path, command: str, key: str) -> None:
    with pytest.raises(InputError, match=rf"photos stands for {key}=photos, and {key}=b is typed, too; type one"):
        name_paths(command, ["photos", f"{key}=b"])
    with pytest.raises(InputError, match=r"too; for other images type data=folder data\.root=photos$"):
        name_paths("test", ["photos", "ckpt_path=b"])


@pytest.mark.parametrize(
    ("command", "message"),
    [("predict", "a glob in quotes: '.+/*'"), ("train", "type one folder")],
)
def test_several_paths_are_refused(here: Path, command: str, message: str) -> None:
    with pytest.raises(InputError, match=r"2 paths without a key, photos and welds\.csv"):
        name_paths(command, ["photos", "welds.csv"])


def test_a_folder_is_audited(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_welds(here / "photos", ("good", "pore"), seams=range(4))
    call("audit", "photos", "output_dir=a")
    assert (here / "a" / "audit.html").is_file()
    # What train would ask for.
    assert "data.group_by=prefix:1   4 groups of 4.0 photographs each" in capsys.readouterr().out
    call("audit", "photos", "data.group_by=prefix:1", "output_dir=b")
    assert "could be the welds" not in capsys.readouterr().out
    message = refuse(capsys, "audit", "phtos")
    assert "'phtos' is neither a file or folder nor key=value; did you mean 'photos'?" in message
    assert "data.root is not read by data=manifest" in refuse(capsys, "audit", "photos", "data=manifest")


@pytest.fixture(scope="module")
def shown() -> str:
    """What `weldnet-train --help` prints."""
    with redirect_stdout(io.StringIO()) as printed:
        assert exit_code("train", "--help") == 0
    return printed.getvalue()


def test_help_lists_what_people_use(shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 120
    # Two blanks end the column of keys and values.
    pairs = dict(line.split("  ")[1].split("=") for line in lines if re.match(r"  [\w.]+=\S+  ", line))
    assert len(pairs) >= 25
    del pairs["callbacks"]
    exit_code("train", "--cfg", "job")
    cfg = OmegaConf.create(capsys.readouterr().out)
    for key, value in pairs.items():
        parent, _, name = key.rpartition(".")
        assert name in (OmegaConf.select(cfg, parent) if parent else cfg), key
        assert str(OmegaConf.select(cfg, key)).replace("None", "null") == value, key
    # The same with what is typed, and the page of the docs.
    typed = [
        "optimizer.lr=7",
        "data.window=[0,4095]",
        "evaluation.good_classes=[not fused,B]",
        f"output_dir={'a ' * 90}b",
    ]
    exit_code("train", *typed, "--help")
    changed = capsys.readouterr().out
    assert [word for word in typed if f"  {word}  " not in changed] == []
    page = Path(__file__, "..", "..", "..", "docs", "settings.md").resolve().read_text()
    assert textwrap.indent(shown, "    ", lambda line: bool(line.strip())) in page


def test_help_all_lists_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "crossval", "predict"):
        assert exit_code(command, "--help", "all") == 0
        shown = capsys.readouterr().out
        assert "ckpt_path: " in shown
        assert ("zero_init_residual: false" in shown) == (command != "predict")


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("data.group_by", "folder, prefix:N, pattern, per_image"),
        ("data.val", "unseen, known"),
        ("data.resize", "stretch, letterbox"),
        ("data.orient", "as_is, long_side_vertical"),
        ("data.normalize", "imagenet, per_image"),
        ("data.window", "full, percentile, [low,high]"),
        ("data.on_unreadable", "stop, skip"),
        ("data.augmentation", "none, light, weld"),
        ("data.balance", "none, weights, sampler"),
        ("trainer.precision", "32-true, bf16-mixed, 16-mixed"),
        ("callbacks", "early_stopping, auto, averaging, keep_last"),
    ],
)
def test_help_says_what_is_allowed(
    here: Path, shown: str, capsys: pytest.CaptureFixture[str], key: str, allowed: str
) -> None:
    line = next(line for line in shown.splitlines() if line.startswith(f"  {key}="))
    (here / "photos" / "good").mkdir()
    (here / "photos" / "good" / "a.jpg").touch()
    message = refuse(capsys, "train", "photos", f"{key}=wrong")
    for word in allowed.split(", "):
        assert word in line
        assert word in message
