"""weldnet-predict through its real main."""

import json
import shlex
import shutil
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest
from calling import exit_code
from drawing import draw_noise, save_image, write_welds
from fork_server import Done, ForkServer
from trained import CLASSES, copy_small

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, a trained run, and `welds`, its images."""
    return copy_small(small, tmp_path_factory.mktemp("home"))


def call(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str) -> int:
    """Exit code of `weldnet-predict ckpt_path=run ...` from the home folder."""
    monkeypatch.chdir(home)
    return exit_code("predict", "ckpt_path=run", *arguments)


def read(folder: Path) -> pl.DataFrame:
    return pl.read_csv(folder / "predictions.csv")


def largest(differences: pl.Series) -> float:
    return float(differences.abs().to_numpy().max())


def test_predictions_are_those_of_the_test(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was tested is what runs: the run's own predictions.csv of its test split agrees."""
    tested = read(home / "run")
    tested.select("path").write_csv(tmp_path / "new.csv")
    assert call(monkeypatch, home, f"source={tmp_path / 'new.csv'}", f"output_dir={tmp_path / 'out'}") == 0
    predictions = read(tmp_path / "out")
    columns = ["path", "predicted", "verdict", "unlike_training"]
    assert predictions.select(columns).equals(tested.select(columns))
    for name in CLASSES:
        assert largest(predictions[f"p_{name}"] - tested[f"p_{name}"]) < 1e-5


def test_bf16_stays_near(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for precision in ("float32", "bf16"):
        folder = f"output_dir={tmp_path / precision}"
        assert call(monkeypatch, home, "source=welds", folder, f"precision={precision}") == 0
    exact, half = (read(tmp_path / name) for name in ("float32", "bf16"))
    assert 0 < largest(exact["p_good"] - half["p_good"]) < 0.05


def test_unreadable_files_exit_with_1(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_welds(tmp_path / "photos", CLASSES, seams=range(1))
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    code = call(
        monkeypatch, home, f"source={tmp_path / 'photos'}", f"output_dir={tmp_path / 'out'}",
        f"sort_into={tmp_path / 'sorted'}", "explain=worst",
    )  # fmt: skip
    assert code == 1
    shown = capsys.readouterr()
    assert "1 of 5 files could not be read" in shown.err
    assert "photos/broken.jpg: " in shown.err
    rows = [line.replace("│", " ").split() for line in shown.out.splitlines()]
    (total,) = (row for row in rows if row[:1] == ["all"])
    *verdicts, every = map(int, total[1:5])
    assert sum(verdicts) == every == 4
    assert "unreadable: 1" in shown.out
    assert read(tmp_path / "out")["error"].drop_nulls().len() == 1
    assert (tmp_path / "sorted" / "unreadable" / "broken.jpg").is_file()
    assert len(list((tmp_path / "out" / "explained").rglob("*.png"))) == 4
    assert call(monkeypatch, home, f"source={tmp_path / 'photos'}", f"output_dir={tmp_path / 'out'}") == 2
    assert "is not empty; resume=true resumes there, or name a different folder" in capsys.readouterr().err


def test_a_sweep_continues_after_unreadable_files(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_welds(tmp_path / "photos", CLASSES, seams=range(1))
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    folder = f"output_dir={tmp_path}/${{precision}}"
    assert call(monkeypatch, home, "-m", f"source={tmp_path / 'photos'}", folder, "precision=float32,bf16") == 1
    for name in ("float32", "bf16"):
        assert len(read(tmp_path / name)) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["source=nowhere"], "no such file or folder"),
        (["source=welds", "precision=half"], "allowed are float32, bf16"),
        (["source=welds", "explain=some"], "allowed are none, worst, all"),
        (["source=welds", "device=cuda:99"], "device=cpu always is"),
        (["source=welds", "resume=true"], "output_dir=DIR"),
        (["source=welds", "output_dir=run"], "not empty"),
        (["source=welds", "output_dir=run", "resume=true"], "not empty"),
        (["source=welds", "sort_into=welds/sorted"], "lies in the source"),
        (["source=welds/**/*.jpg", "sort_into=welds/sorted"], "lies in the source"),
        (["source=welds", "explain=worst", "output_dir=welds/out"], "lies in the source"),
        (["source="], "source= is empty"),
        (["source=welds", "sort_into="], "sort_into= is empty"),
        (["source=welds", f"output_dir={'a' * 300}"], "file name too long"),
        (["source=welds", "ckpt_path=welds"], "no checkpoints"),
        (["source=welds", "sauce=3"], "did you mean 'source'"),
        ([], "source is not given"),
        (["source=welds/**/*.jpg", "watch=true"], "watch=true needs a folder that is there"),
        (["source=welds", "watch=true", "explain=all"], "which a watch does not have; type explain=none"),
        (["source=welds", "watch=true", "poll_s=0"], "poll_s=0: allowed are numbers above 0, up to 86400"),
        (["source=welds", "watch=true", "poll_s=1e12"], "poll_s=1e+12: allowed are numbers above 0, up to 86400"),
        (["source=welds", "watch=true", "sort_into=welds/sorted"], "lies in the source"),
        (["source=welds", "watch=true", "notify.command=[no-such-program]"], "no program no-such-program"),
        (["source=welds", "watch=true", "notify.url=http://example.com/?a=b&c"], "addresses of this machine alone"),
    ],
)
def test_mistakes_leave_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    before = sorted(home.rglob("*"))
    assert call(monkeypatch, home, *arguments) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert "Traceback" not in printed
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "where"),
    [(["watch=true"], "notify.command=[] and notify.url=null"), ([], "watch=false")],
)
def test_what_hands_nothing_on_has_no_effect(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, arguments: list[str], where: str
) -> None:
    assert call(monkeypatch, home, "source=welds", "notify.timeout_s=3", "ckpt_path=welds", *arguments) == 2
    assert f"notify.timeout_s has no effect with {where}" in caplog.text


def test_an_interrupted_command_says_how_to_resume(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: ForkServer
) -> None:
    photos = tmp_path / "photos, many"
    save_image(photos / "0000.png", draw_noise(800, 600))
    for number in range(1, 200):
        shutil.copy(photos / "0000.png", photos / f"{number:04d}.png")
    rows = tmp_path / "out" / "predictions.jsonl"
    typed = ["ckpt_path=run", f"source={photos}", f"output_dir={tmp_path / 'out'}"]
    with forks.start(home, "predict", *typed) as process:
        process.wait_until(lambda: rows.exists() and rows.stat().st_size)
        process.send_signal(signal.SIGINT)
        done = process.wait()
    assert done.code == 130
    assert 0 < len(rows.read_text().splitlines()) < 200
    go_on = done.out.splitlines()[-1].removeprefix("interrupted; resume with: ")
    command, *typed = shlex.split(go_on)
    assert Path(command).name == "weldnet-predict"
    monkeypatch.chdir(home)
    assert exit_code("predict", *typed) == 0
    assert read(tmp_path / "out")["path"].to_list() == [str(photos / f"{n:04d}.png") for n in range(200)]


def predict_in_two(forks: ForkServer, home: Path, out: Path, *typed: list[str]) -> list[Done]:
    """Starts a prediction in two processes as torchrun does, each with its own arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with ExitStack() as stack:
        processes = []
        for rank, arguments in enumerate(typed):
            numbers = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            environment = numbers | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            words = ["ckpt_path=run", *arguments, f"output_dir={out}"]
            processes.append(stack.enter_context(forks.start(home, "predict", *words, environment=environment)))
        return [process.wait() for process in processes]


def test_two_processes_predict_as_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forks: ForkServer
) -> None:
    assert call(monkeypatch, home, "source=welds", f"output_dir={tmp_path / 'one'}") == 0
    ends = predict_in_two(forks, home, tmp_path / "two", ["source=welds"], ["source=welds"])
    assert [each.code for each in ends] == [0, 0], ends
    assert sum(each.out.count(" images, model ") for each in ends) == 1
    one, two = (read(tmp_path / name) for name in ("one", "two"))
    columns = ["path", "sha256", "predicted", "verdict"]
    assert two.select(columns).equals(one.select(columns))
    assert largest(two["p_good"] - one["p_good"]) < 1e-5
    assert not list((tmp_path / "two").glob("*.rank*"))
    assert json.loads((tmp_path / "two" / "judged_by.json").read_text())["classes"] == list(CLASSES)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_processes_share_one_list_and_one_model(home: Path, tmp_path: Path, forks: ForkServer, precision: str) -> None:
    """The second of two sees other images, as on a folder that grows; the first one's list counts for both."""
    others = ["source=welds/good", f"precision={precision}"]
    ends = predict_in_two(forks, home, tmp_path / "out", ["source=welds", "precision=float32"], others)
    if precision == "bf16":
        assert [each.code for each in ends] == [2, 2]
        assert all("different models or precisions" in each.err for each in ends)
        assert not list((tmp_path / "out").glob("predictions*"))
    else:
        assert [each.code for each in ends] == [0, 0], ends
        assert read(tmp_path / "out")["path"].n_unique() == len(read(tmp_path / "out")) == 240


def test_copies_that_cannot_be_made_are_refused_before_any_work(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    typed = (f"output_dir={tmp_path / 'out'}", f"sort_into={tmp_path / 'file' / 'sorted'}")
    assert call(monkeypatch, home, "source=welds", *typed) == 2
    assert f"sort_into={tmp_path / 'file' / 'sorted'} cannot be made" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
