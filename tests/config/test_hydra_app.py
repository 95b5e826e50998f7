"""The wrapper around Hydra: what is typed arrives, and what is wrong is reported once."""

import io
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext, suppress
from itertools import zip_longest
from pathlib import Path

import hydra
import pytest
from calling import exit_code
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from schemas import SCHEMAS

from weldnet.commands.test import main as run_test
from weldnet.commands.train import main as run_train
from weldnet.config.arguments import VERBATIM, quote, quote_verbatim
from weldnet.config.endings import end_with_reader
from weldnet.config.hydra_app import command
from weldnet.config.mistakes import check_paths
from weldnet.errors import InputError
from weldnet.inference.settings import NotifySettings

COMMANDS = tuple(SCHEMAS)

AWKWARD = [
    "plain",
    "a (1).jpg",
    "img_[0-9]*.jpg",
    "a,b.jpg",
    "x=1.ckpt",
    "ä ö ü.jpg",
    "#1",
    r"(S\d+)_",
    r"^(?P<g>[^_]+)_.*\.(jpg|png)$",
    "it's",
    'say "so"',
    "back\\",
    "back\\\\'quote",
    "${oc.env:HOME}",
    "$HOME/{a}",
    "~/welds",
    "C:\\welds\\new",
    " leading and trailing ",
    "true",
    "12",
    "a:b@c",
]


def test_no_objects_are_searched_for_cycles_at_the_end() -> None:
    lines = (
        "import atexit, gc, sys",
        # What is registered first is called last.
        "atexit.register(lambda: print(gc.get_freeze_count() > 0))",
        "from weldnet.commands.train import main",
        "sys.argv = ['weldnet-train', 'nothing']",
        "main()",
    )
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "True\n")


@pytest.mark.parametrize("value", AWKWARD)
def test_paths_and_patterns_arrive_as_typed(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}

    others = {"crossval", "source", "sort_into", "target", "export"}
    keys = {key for key in VERBATIM - others if not key.startswith(("audit.", "serve.", "notify.", "sweep."))}

    def run(cfg: DictConfig) -> None:
        seen.update({key: str(OmegaConf.select(cfg, key)) for key in keys})

    monkeypatch.setattr(sys, "argv", ["weldnet-train", *(f"{key}={value}" for key in keys)])
    command("train", run, SCHEMAS["train"])()
    assert seen == dict.fromkeys(keys, value)


@pytest.mark.parametrize("typed", ["data.root=null", "data.root='a b'", "optimizer.lr=3e-4", "--help", "data=folder"])
def test_all_else_is_left_to_hydra(typed: str) -> None:
    assert quote_verbatim(typed) == typed


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("[gate,04,1.50,1e3,1_0,true,null]", ["gate", "04", "1.50", "1e3", "1_0", "true", "null"]),
        ("[/opt/line/gate.py, --station=4, a (1)]", ["/opt/line/gate.py", "--station=4", "a (1)"]),
        (r"""["a,1.5", 'it\'s', "say \"1.5\"", C:\new\]""", ["a,1.5", "it's", 'say "1.5"', "C:\\new\\"]),
        ("[]", []),
    ],
)
def test_the_words_of_a_command_are_taken_as_typed(typed: str, words: list[str]) -> None:
    (override,) = OverridesParser.create().parse_overrides([quote_verbatim(f"notify.command={typed}")])
    assert OmegaConf.merge(OmegaConf.structured(NotifySettings), {"command": override.value()}).command == words
    again = f"[{','.join(map(quote, words))}]"
    assert quote_verbatim(f"notify.command={again}") == f"notify.command={again}"


@pytest.mark.parametrize(
    ("main", "arguments", "expected"),
    [
        ("train", ["optimzer.lr=1"], ["optimzer.lr", "did you mean 'optimizer'"]),
        ("train", ["optimizer.lrr=1"], ["optimizer.lrr", "did you mean 'optimizer.lr'"]),
        ("train", ["data.batchsize=4"], ["data.batchsize", "did you mean 'data.batch_size'"]),
        ("train", ["trainer.max_epoch=4"], ["trainer.max_epoch", "did you mean 'trainer.max_epochs'"]),
        ("train", ["data.image_size.hight=4"], ["did you mean 'data.image_size.height'"]),
        ("train", ["+optimizer.epz=1"], ["optimizer.epz", "did you mean 'eps'"]),
        # Names that other programs use, and last parts of keys.
        ("train", ["lr=3e-4"], ["no such key: lr; did you mean optimizer.lr=3e-4?"]),
        ("train", ["learning_rate=1"], ["no such key: learning_rate; did you mean optimizer.lr=1?"]),
        ("train", ["epochs=5"], ["did you mean trainer.max_epochs=5?"]),
        ("train", ["batch=64"], ["did you mean data.batch_size=64?"]),
        ("train", ["imgsz=96"], ["did you mean data.image_size.height=96?"]),
        ("train", ["workers=4"], ["did you mean data.num_workers=4?"]),
        ("train", ["device=1"], ["did you mean trainer.devices=1?"]),
        ("train", ["device=cuda"], ["did you mean trainer=gpu or trainer=cpu?"]),
        ("train", ["pretrained=True"], ["did you mean model.weights=...?"]),
        ("train", ["allow_leak=true"], ["did you mean data.allow_leak=true?"]),
        ("train", ["data=/"], ["data=/: data takes", "type data=folder data.root=/"]),
        ("test", ["data=/dev/null"], ["type data=manifest data.manifest=/dev/null"]),
        ("train", ["patience=3"], ["did you mean callbacks=early_stopping callbacks.early_stopping.patience=3?"]),
        ("train", ["callbacks=early_stopping", "patience=3"], ["did you mean callbacks.early_stopping.patience=3?"]),
        ("test", ["checkpoint=x"], ["did you mean ckpt_path=x?"]),
        ("train", ["data.batch_size=many"], ["data.batch_size=many"]),
        ("train", ["trainer.max_epochs=many"], ["trainer.max_epochs=many", "integer"]),
        ("train", ["trainer.precision=bf17"], ["trainer.precision=bf17", "bf16-mixed"]),
        ("train", ["optimizer.lr=abc"], ["optimizer.lr=abc", "number"]),
        ("train", ["optimizer._target_=torch.optim.Adamm"], ["optimizer._target_=torch.optim.Adamm"]),
        ("train", ["callbacks.best.monitor=val/acuracy"], ["did you mean 'val/accuracy'"]),
        ("train", ["+foo=1"], ["no such key: foo"]),
        ("train", ["+data.batchsize=1"], ["no such key: data.batchsize", "did you mean 'batch_size'"]),
        ("train", ["+seed=3"], ["seed exists already; type seed=..."]),
        ("train", ["++seed=x"], ["weldnet-train: seed=x: allowed is a whole number"]),
        ("train", ["model="], ["model=: allowed are resnet18, resnet50"]),
        ("train", ["hydra.rn=1"], ["no such key: hydra.rn; --hydra-help"]),
        ("train", ["-m", "seed=1.5,x"], ["seed=1.5: allowed is a whole number"]),
        ("train", ["~data.root"], ["~data.root: a key cannot be removed"]),
        ("train", ["~seed"], ["~seed: a key cannot be removed"]),
        ("train", ["optimizer=sgd", "optimizer.momentun=1"], ["did you mean 'optimizer.momentum'"]),
        ("train", ["optimizer=sdg", "optimizer.lrr=1"], ["optimizer=sdg: allowed are adam, adamw, sgd"]),
        ("train", ["+experiment=demo"], ["experiment is chosen already; type experiment=demo without"]),
        ("train", ["++model=resnet18"], ["model is a group; type model=resnet18 without"]),
        ("train", ["model=[a,b]"], ["model=b: there is no such option"]),
        ("train", ["hydra/launcher=joblib"], ["hydra/launcher=joblib: allowed are basic"]),
        ("train", ["seed=1,2"], ["seed takes one value here, not 1,2", "-m"]),
        ("test", ["ckpt_path=x", "+foo=1"], ["no such key: foo"]),
        ("test", ["ckpt_path=x", "~splt"], ["no such key: splt", "did you mean 'split'"]),
        ("train", ["optimizer.lr=-1"], ["optimizer.lr=-1: allowed are"]),
        ("train", ["optimizer.weight_decay=-1"], ["weight_decay"]),
        ("train", ["scheduler.warmup_share=3"], ["scheduler.warmup_share=3", "0 to 1"]),
        ("train", ["trainer.max_epochs=0"], ["trainer.max_epochs=0"]),
        ("train", ["seed=-1"], ["seed=-1"]),
        ("train", ["data.shares.val=0", "data.shares.train=0.85"], ["no image in val"]),
        ("train", ["callbacks.best.mode=7"], ["callbacks.best.mode=7"]),
        ("train", ["data=foldr"], ["foldr", "folder"]),
        ("train", ["experiment=nope"], ["nope", "finetune"]),
        ("train", ["data.resize=squash"], ["data.resize=squash", "stretch, letterbox"]),
        ("train", ["model.backbone=resnet51", "model.weights=none"], ["resnet51", "did you mean 'resnet50'"]),
        ("train", ["data=folder"], ["data.root=DIR"]),
        ("train", ["data=folder", "data.root=missing"], ["no folder at", "missing"]),
        ("train", ["data.root=missing"], ["data=folder"]),
        (
            "train",
            ["-m", "seed=1,2", "data=folder", "data.root=missing"],
            ["2 runs of this sweep have not been made", " seed=2 data=folder", "no folder at"],
        ),
        ("train", ["data=manifest", "data.manifest=none.csv"], ["no manifest at"]),
        ("train", ["trainer.accelerator=gpu"], ["trainer"]),
        ("train", ["trainer"], ["'trainer' is neither a file or folder nor key=value"]),
        ("train", ["data.root", "=", "welds"], ["'data.root' is neither a file or folder nor key=value"]),
        ("train", ["=3"], ["'=3' is not key=value"]),
        ("train", ["C:\\photos"], [r"'C:\photos' is neither", "; WSL2 has drive C: as /mnt/c, "]),
        ("train", ["--optimizer.lr=3e-4"], ["no such option: --optimizer.lr", "dashes, optimizer.lr=3e-4"]),
        ("train", ["--lr", "0.1"], ["no such option: --lr; a key is typed without dashes, optimizer.lr=0.1"]),
        ("train", ["--batch-size"], ["data.batch_size=VALUE\n"]),
        ("train", ["--epochs", "data=synthetic"], ["dashes, trainer.max_epochs=VALUE\n"]),
        ("test", ["--ckpt", "."], ["dashes, ckpt_path=.\n"]),
        ("train", ["--data", "."], ["dashes, data=.\n"]),
        ("train", ["--seed=3"], ["dashes, seed=3"]),
        ("train", ["-x"], ["unrecognized arguments: -x"]),
        ("train", ["model=3"], ["a group takes the name of one of its options"]),
        ("train", ["--run", "--cfg", "job"], ["Only one of --run"]),
        ("train", ["seed=1.5"], ["seed=1.5: allowed is a whole number"]),
        ("train", ["data.shares.val=most"], ["data.shares.val=most: allowed is a number"]),
        ("train", ["data.allow_leak=maybe"], ["data.allow_leak=maybe: allowed are true, false"]),
        ("train", ["data.window=7"], ["data.window=7"]),
        ("train", ["evaluation.good_classes=good"], ["evaluation.good_classes=good: allowed is a list, [A,B]"]),
        ("train", ["seed=null"], ["seed=null: null is not allowed"]),
        ("train", ["data.image_size=40"], ["type data.image_size.KEY=...", "height, width"]),
        ("train", ["data.balance=[a"], ["data.balance=[a: cannot be read"]),
        ("train", ["data.balance=[a]"], ["data.balance=[a]: allowed is text"]),
        ("train", ["seed.x=3"], ["no such key: seed.x; seed is a value"]),
        ("train", ["a+b=3"], ["'a+b=3' is not key=value\n"]),
        ("train", ["~data.balance"], ["~data.balance: a key cannot be removed"]),
        ("train", ["model.freeze_through=layer9", "model.weights=none"], ["model.freeze_through=layer9"]),
        ("train", ["ckpt_path=nothing.ckpt"], ["no checkpoint at", "nothing.ckpt"]),
        ("test", [], ["ckpt_path"]),
        ("test", ["ckpt_path=best"], ["no finished epoch"]),
        ("test", ["ckpt_path=x", "splt=test"], ["did you mean 'split'"]),
        ("test", ["ckpt_path=x", "split=tets"], ["did you mean 'test'"]),
        ("test", [f"ckpt_path={__file__}", "device=gpu7"], ["device=gpu7"]),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    main: str,
    arguments: list[str],
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["data.num_images=36", "data.num_seams=6"] if main == "train" else []
    monkeypatch.setattr(sys, "argv", [f"weldnet-{main}", *small, *arguments])
    with pytest.raises(SystemExit) as stop:
        {"train": run_train, "test": run_test}[main]()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in error
    for words in expected:
        assert words in error
    assert not list(tmp_path.iterdir()), "a refused command leaves nothing behind"


@pytest.mark.parametrize(
    ("main", "arguments", "expected"),
    [
        ("train", ["nowhere"], "'nowhere' is neither"),
        ("train", ["data=folder", "data.root=nowhere"], "no folder at {}/nowhere"),
        ("train", ["data=folder", "data.root=" + "a" * 300], ": file name too long"),
        ("train", ["ckpt_path=nowhere"], "no checkpoint at {}/nowhere"),
        ("crossval", ["data=folder", "data.root=letters"], "no image in any split for '2026' below {}/letters"),
        ("sweep", ["data=folder", "data.root=letters/2026"], "{}/letters/2026 holds no class folders"),
        ("audit", ["data=manifest", "data.manifest=nowhere.csv"], "no manifest at {}/nowhere.csv"),
    ],
)
def test_a_mistyped_path_is_refused_without_torch(
    main: str, arguments: list[str], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "letters" / "2026").mkdir(parents=True)
    (tmp_path / "letters" / "2026" / "a.txt").touch()
    code = (
        f"import sys\nfrom weldnet.commands.{main} import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert expected.format(tmp_path) in done.stderr
    assert (done.returncode, done.stdout) == (2, "False\n")


def test_a_checkpoint_s_own_source_may_read_files_of_any_kind(tmp_path: Path) -> None:
    """Of which kind it is, is not known before the checkpoint is read."""
    moved = {"_target_": None, "root": str(tmp_path / "new"), "manifest": None}
    with pytest.raises(InputError, match=r"^no folder at .*new"):
        check_paths(OmegaConf.create(moved), ["data.root"])
    (tmp_path / "new").mkdir()
    check_paths(OmegaConf.create(moved), ["data.root"])


@pytest.mark.parametrize(
    ("file", "content", "typed", "expected"),
    [
        ("experiment/a", "seed: [1", ["experiment=a"], "experiment/a.yaml"),
        ("experiment/a", "name: x", ["experiment=a"], "experiment/a.yaml: no such key: name; the config has seed"),
        ("experiment/a", "data: {root_dir: x}", ["experiment=a"], "a.yaml: no such key: data.root_dir"),
        ("experiment/a", "seed: x", ["experiment=a"], "experiment/a.yaml: seed: allowed is a whole number"),
        ("plant/a", None, ["+plant=a"], "plant/a.yaml: begin the file with the line # @package _global_"),
        ("optimizer/a", None, ["optimizer=a", "optimizer.momntum=1"], "did you mean 'optimizer.momentum'"),
        ("optimizer/a", "\xe9: 1", ["optimizer=a"], "a file of --config-dir: 'utf-8' codec"),
    ],
)
def test_a_mistake_in_a_file_of_your_own(
    file: str,
    content: str | None,
    typed: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "my own" / f"{file}.yaml"
    path.parent.mkdir(parents=True)
    text = f"# @package _global_\n{content}\n" if content else "_target_: torch.optim.SGD\nmomentum: 0.1\n"
    path.write_text(text, encoding="latin-1")
    monkeypatch.setattr(sys, "argv", ["weldnet-train", "--config-dir", str(tmp_path / "my own"), *typed])
    with pytest.raises(SystemExit):
        run_train()
    assert expected in capsys.readouterr().err


def test_a_command_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, load = [], ConfigStore.load

    def note(self: ConfigStore, config_path: str) -> object:
        loaded.append(config_path)
        return load(self, config_path)

    monkeypatch.setattr(ConfigStore, "load", note)
    monkeypatch.setattr(sys, "argv", ["weldnet-train", "seed=3"])
    command("train", lambda cfg: None, SCHEMAS["train"])()
    assert loaded.count("train_schema.yaml") == 1


@pytest.mark.parametrize(("is_sweep", "quoted"), [(False, r"'x/\${format}'"), (True, "'x/${format}'")])
def test_in_a_sweep_each_run_may_have_its_folder(is_sweep: bool, quoted: str) -> None:
    assert quote_verbatim("output_dir=x/${format}", is_sweep=is_sweep) == f"output_dir={quoted}"


@pytest.mark.parametrize(
    "typed",
    [
        *(["--info", "defaults"], ["-i"], ["--cfg", "job"], ["--cfg=job"], ["-cjob"], ["--res", "-c", "job"]),
        *(["--config-dir", "{here}", "-c", "job", "+mine=a"], ["seed=3", "--cfg", "job", "-p", "data"]),
        *(["--config-d", "{here}", "-c", "job", "--pack", "seed"],),
        *(["-c", "job", "++seed=3"], ["-c", "job", "~scheduler"], ["-c", "job", "data.manifest=a b=c\nd"]),
        *(["-sc", "install=bash"], ["--hydra-help"]),
    ],
)
def test_what_hydra_takes_is_taken(typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.yaml").write_text("# @package _global_\nseed: 7\n")
    monkeypatch.setattr(sys, "argv", ["weldnet-train", *(word.format(here=tmp_path) for word in typed)])
    with suppress(SystemExit) if typed == ["--hydra-help"] else nullcontext():
        run_train()


@pytest.mark.parametrize("name", ["train", "test", "audit", "crossval", "export"])
def test_help_lists_the_groups_that_there_are(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"weldnet-{name}", "--help", "all"])
    with suppress(SystemExit):
        command(name, print, SCHEMAS[name])()
    listed = re.search(r"== Groups.*\n((?:.+\n)+)", capsys.readouterr().out)
    assert listed is not None
    groups = dict(line.split(": ") for line in listed[1].splitlines())
    # The first options of all groups together, then the second ones, until each has been composed.
    for options in zip_longest(*(group.split(", ") for group in groups.values())):
        chosen = {group: option for group, option in zip(groups, options, strict=True) if option is not None}
        with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
            cfg = hydra.compose(name, [f"{group}={option}" for group, option in chosen.items()])
        assert {*chosen, "experiment"} <= {*cfg, "experiment"}


@pytest.mark.parametrize("name", COMMANDS)
def test_sigterm_ends_a_command_as_ctrl_c_does(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unheeded: object
) -> None:
    monkeypatch.setattr(sys, "argv", [f"weldnet-{name}"])
    with pytest.raises(SystemExit) as stop:
        command(name, lambda _: signal.raise_signal(signal.SIGTERM), SCHEMAS[name])()
    assert stop.value.code == 130
    assert capsys.readouterr().err == f"weldnet-{name}: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is unheeded


def end_in_a_finalizer() -> None:
    class Ended:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    Ended()


def end_in_a_weak_reference() -> None:
    class Ended:
        pass

    ended = Ended()
    reference = weakref.ref(ended, lambda _: signal.raise_signal(signal.SIGTERM))
    del ended
    assert reference() is None


@pytest.mark.parametrize("end", [end_in_a_finalizer, end_in_a_weak_reference])
def test_a_signal_while_an_object_is_finalized_ends_a_command(
    end: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python drops what is raised there, and would continue."""
    monkeypatch.setattr(sys, "argv", ["weldnet-audit"])

    def run(cfg: object) -> None:
        end()
        time.sleep(10)
        print("it continued")

    with pytest.raises(SystemExit) as stop:
        command("audit", run, SCHEMAS["audit"])()
    assert stop.value.code == 130
    assert capsys.readouterr() == ("", "weldnet-audit: interrupted\n")


@pytest.mark.parametrize("name", [*COMMANDS, "overview"])
def test_help_for_a_reader_who_has_gone_ends_quietly(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As in `weldnet-train --help | head`."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert exit_code(name, "--help") == 128 + signal.SIGPIPE
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("buffer_size", [0, 8192])
@pytest.mark.parametrize("length", [1, 100_000])
def test_what_could_not_be_written_may_be_dropped(
    name: str, buffer_size: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a flush finds nothing left to write, and nobody gone."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    raw = os.fdopen(write_end, "wb", buffering=0)
    binary = io.BufferedWriter(raw, buffer_size) if buffer_size else raw
    with io.TextIOWrapper(binary, write_through=not buffer_size) as closed:
        monkeypatch.setattr(sys, name, closed)
        with pytest.raises(SystemExit) as stop, end_with_reader():
            print("x" * length, file=closed, flush=name == "stderr")
    assert stop.value.code == 128 + signal.SIGPIPE


def test_a_broken_pipe_to_something_else_is_not_hidden() -> None:
    @end_with_reader()
    def main() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        main()
