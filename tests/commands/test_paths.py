"""A path with an interpolation is resolved once, before anything is written."""

from pathlib import Path

import pytest
from calling import call, refuse
from drawing import write_welds
from trained import CLASSES, TINY

from weldnet.config.literal import read_config

pytestmark = pytest.mark.usefixtures("undrawn")

CASES = {
    "typed literally": ["output_dir=out/${seed}"],
    "typed for Hydra": ["output_dir='out/${seed}'"],
    "the time": ["output_dir='out/${now:%H%M%S%f}'", "data.cache_dir='out/cache/${now:%f}'"],
    "a different literal": ["output_dir=out/a", r"data.cache_dir=out/cache/${nothing}\\"],
    "a file of one's own": ["--config-dir", "mine", "experiment=own"],
    "a sweep": ["-m", "seed=1,2", "output_dir=out/${seed}"],
}


@pytest.fixture
def here(here: Path) -> Path:
    write_welds(here / "welds", CLASSES, seams=range(8), shots=2, size=(32, 16))
    (here / "mine" / "experiment").mkdir(parents=True)
    (here / "mine" / "experiment" / "own.yaml").write_text(
        "# @package _global_\ndefaults: [finetune]\n"
        "output_dir: out/${now:%H%M%S%f}\ndata: {cache_dir: '${output_dir}/../cache/${now:%f}'}\n"
        "callbacks: {best: {filename: 'best'}}\n"
    )
    return here


def test_a_variable_is_refused_where_tensorboard_would_expand_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "elsewhere")
    assert "names an environment variable" in refuse(capsys, "train", *TINY, "output_dir=out/$PLACE")
    assert not (here / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "crossval"])
@pytest.mark.parametrize("case", CASES)
def test_a_run_has_one_folder(command: str, case: str, here: Path) -> None:
    folds = ["num_folds=2"] if command == "crossval" else []
    # Only what tells the time could tell two folds two folders.
    one = ["data.fold=0"] if folds and "${now" not in str(CASES[case]) and case != "a file of one's own" else []
    call(command, *TINY, "trainer.max_epochs=1", *folds, *one, *CASES[case])
    configs = [file for file in (here / "out").rglob("config.yaml") if not file.parent.name.startswith("fold_")]
    assert len(configs) == (2 if case == "a sweep" else 1)
    for config in configs:
        run = config.parent
        assert Path(read_config(config).output_dir) == run
        for fold in run.glob("fold_*") if folds else [run]:
            assert (fold / "report.html").is_file()
            assert (fold / "checkpoints" / "last.ckpt").is_file()
            assert list(fold.glob("events.out.tfevents.*"))
    assert len(list((here / "out" / "cache").glob("*"))) <= 1
    strays = {path.name for path in here.iterdir()} - {"welds", "mine", "out"}
    assert not strays
    for config in configs:
        call(command, f"ckpt_path={config.parent}", *one)
