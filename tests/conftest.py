"""What every test stands on: its share of the cores, no network, no cache but its own."""

import copy
import functools
import gc
import importlib.metadata
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from hydra.core.config_store import ConfigStore
from hypothesis import settings
from omegaconf import OmegaConf
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from fork_server import ForkServer
    from selenium.webdriver.chrome.webdriver import WebDriver
    from serving import Client

    from weldnet.inference.predictor import Predictor


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="tests/faults with many cases; takes hours")


def pytest_configure(config: pytest.Config) -> None:
    # How long an example takes says more about the machine than about the code.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    # For what is fixed when a test is imported; pytest-xdist's workers do not see the arguments.
    os.environ["THOROUGH"] = "1" if config.getoption("--thorough") else ""
    # Lightning asks all installed packages for callbacks whenever it makes a trainer; here once.
    pytest.MonkeyPatch().setattr(importlib.metadata, "entry_points", functools.cache(importlib.metadata.entry_points))
    compose_cheaply()
    # Read when huggingface_hub is imported.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}


def compose_cheaply() -> None:
    """Hydra parses every file of configs/ in each call, and copies all schemas before it copies those it takes."""
    load, parsed = OmegaConf.load, dict[str, Any]()

    def load_once(file: Any) -> Any:
        if isinstance(file, (str, Path)):
            return load(file)
        text = file.read()
        file.seek(0)
        if text not in parsed:
            parsed[text] = load(file)
        return copy.deepcopy(parsed[text])

    pytest.MonkeyPatch().setattr(OmegaConf, "load", load_once)
    pytest.MonkeyPatch().setattr(ConfigStore, "__deepcopy__", lambda store, _: store, raising=False)


def pytest_collection_finish() -> None:
    # What is imported and collected by now stays: half a million objects that no further collection goes through.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    # Hypothesis's summary asks who refers to its generators, which sees nothing that is frozen.
    gc.unfreeze()


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether tests/faults tries many cases, or as few as CI has time for."""
    return bool(request.config.getoption("--thorough"))


@pytest.fixture(scope="session", autouse=True)
def own_cores() -> None:
    """Each of pytest-xdist's workers keeps to its share of the cores, or to OMP_NUM_THREADS."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    # pytest-xdist's controller needs no torch.
    import torch

    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share = max(1, len(os.sched_getaffinity(0)) // workers)
    torch.set_num_threads(share)
    threadpool_limits(share)
    # For the processes that tests start.
    os.environ["OMP_NUM_THREADS"] = str(share)


@pytest.fixture(autouse=True)
def own_caches(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
        for variable in ("WELDNET_CACHE", "TORCH_HOME"):
            (Path(folder) / variable).mkdir()
            monkeypatch.setenv(variable, f"{folder}/{variable}")
        yield


@pytest.fixture(autouse=True)
def own_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test starts with Hydra's own schemas, as a process does."""
    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", dict(store.repo))


@pytest.fixture(scope="session", autouse=True)
def kept_schemas() -> Iterator[None]:
    """No test or command changes Hydra's own schemas, which all composings share: see `compose_cheaply`."""
    before = dict(list_schemas(ConfigStore.instance().repo))
    yield
    after = dict(list_schemas(ConfigStore.instance().repo))
    assert {name: after.get(name) for name in before} == before


def list_schemas(repo: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The names of Hydra's schemas, and what each holds."""
    for name, each in repo.items():
        if isinstance(each, dict):
            yield from list_schemas(each, f"{above}{name}/")
        else:
            yield f"{above}{name}", OmegaConf.to_yaml(each.node)


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills, once for all of pytest-xdist's workers; no test changes what is in it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `train_small` makes; who changes it takes `copy_small`."""
    from trained import train_small

    return make_once(tmp_path_factory, "small", train_small)


@pytest.fixture(scope="session")
def exported(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """By its format, the export of `small`."""
    from exports import export_small

    @cache
    def make(name: str) -> Path:
        return make_once(tmp_path_factory, f"exported_{name}", partial(export_small, small, name)) / "export"

    return make


@pytest.fixture(scope="session")
def forks() -> "Iterator[ForkServer]":
    """Runs commands in processes of their own, which import nothing anew."""
    from fork_server import ForkServer

    with ForkServer() as made:
        yield made


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """See `without_charts`."""
    from calling import without_charts

    with without_charts():
        yield


@pytest.fixture
def unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training ends with its last epoch: its checkpoint is not calibrated, measured and reported, a third of all."""
    monkeypatch.setattr("weldnet.config.trainings.finish_run", lambda *_, **__: None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own folder, which is the current one; a module may put more into it by a fixture of this name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def shared_welds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `welds`, good ones and pores of 20 seams, and a cache of what was decoded."""
    from drawing import write_welds
    from trained import CLASSES

    folder = tmp_path_factory.mktemp("shared")
    write_welds(folder / "welds", CLASSES, seams=range(20), shots=2)
    return folder


@pytest.fixture
def welds_here(shared_welds: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts `shared_welds` into the current folder, for tests that change none of them."""
    (here / "welds").symlink_to(shared_welds / "welds")
    monkeypatch.setenv("WELDNET_CACHE", str(shared_welds / "cache"))


@pytest.fixture
def unheeded() -> Iterator[object]:
    """The handler of a SIGTERM that a command leaves to the system; here it fails the test and ends nothing."""

    def fail(*_: object) -> None:
        pytest.fail("SIGTERM would have ended the process")

    before = signal.signal(signal.SIGTERM, fail)
    yield fail
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[Path]:
    """A folder, and until the test ends no right to look into what is closed, which root has."""
    if os.geteuid():
        yield tmp_path
        return
    user = pwd.getpwnam("nobody").pw_uid
    # What lies below tmp_path is closed to others.
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, user, -1)
        os.seteuid(user)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator["WebDriver"]:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        assert not os.environ.get("CI"), "CI must have chromium and chromedriver"
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking"),
        *("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream", "window-size=1200,900"),
    ):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield chrome
    finally:
        chrome.quit()


@pytest.fixture
def browser(chromium: "WebDriver") -> Iterator["WebDriver"]:
    """A tab of its own of a browser that all tests of a worker share; servers differ by their ports."""
    first = chromium.current_window_handle
    chromium.switch_to.new_window("tab")
    chromium.set_window_size(1200, 900)
    chromium.get_log("browser")  # type: ignore[no-untyped-call]
    yield chromium
    chromium.close()
    chromium.switch_to.window(first)


@pytest.fixture
def predictor() -> "Iterator[Predictor]":
    """Of `serving.Brightness`, in two threads."""
    from serving import Brightness

    from weldnet.inference.predictor import Predictor

    with Predictor(Brightness(), 2) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a served model records its decisions."""
    return tmp_path / "decisions.jsonl"


@pytest.fixture
def client(predictor: "Predictor", file: Path) -> "Iterator[Client]":
    """A client of `predictor`, served in this process."""
    from serving import opened

    with opened(predictor, file) as made:
        yield made
