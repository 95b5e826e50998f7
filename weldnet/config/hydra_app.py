"""The wrapper around Hydra's entry point: values as typed, and one message for a user's mistake."""

import atexit
import gc
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from importlib.resources import files
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from weldnet.config.arguments import name_paths, put_options_first, quote_verbatim, register_help, split_help
from weldnet.config.endings import end_with_reader, end_with_signals
from weldnet.config.literal import SOURCES
from weldnet.config.mistakes import check_keys, check_paths, check_typed, explain
from weldnet.config.schema import register_schema
from weldnet.config.suggestions import UNREAD
from weldnet.data.sources.source import Synthetic
from weldnet.errors import InputError
from weldnet.files import explain_refusal
from weldnet.hardware import shorten_waits

log = logging.getLogger(__name__)

CONFIGS = "weldnet.configs"

FULL_ERROR = "HYDRA_FULL_ERROR"

MISTAKES = (InputError, HydraException, OmegaConfBaseException)
"""What a user's mistake raises, here or in Hydra."""

FindSaved = Callable[[str, list[str]], DictConfig]
"""From `ckpt_path` and all overrides to the config of the run to resume."""


def typed_keys() -> list[str]:
    """The keys that were typed; none outside of a command."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return [override.lstrip("+~").partition("=")[0] for override in overrides]


def warn_of_no_effect(keys: Collection[str], where: str) -> None:
    """Names those of these keys, and of those below them, that were typed, though they change nothing `where`."""
    for key in typed_keys():
        if any(f"{key}.".startswith(f"{each}.") for each in keys):
            log.warning("%s has no effect with %s", key, where)


def warn_of_drawing(data: DictConfig) -> None:
    """Names the keys of drawn images that were typed beside a source of files."""
    if data._target_ in (SOURCES["folder"], SOURCES["manifest"]):
        warn_of_no_effect([f"data.{each.name}" for each in fields(Synthetic)], "photographs, which are not drawn")


def command(
    name: str,
    run: Callable[[DictConfig], Any],
    schema: type,
    find_saved: FindSaved | None = None,
    end_sweep: Callable[[list[Any]], None] = lambda results: None,
) -> Callable[[], None]:
    """A console script of a function that takes the composed config.

    A user's mistake ends in one message on standard error and exit code 2; HYDRA_FULL_ERROR=1 shows the traceback.
    Ctrl-C and SIGTERM end it by exit code 130. In a sweep (-m) `end_sweep` takes what `run` returned of each run.
    """

    def main() -> None:
        shorten_waits()
        # At its end Python searches all objects of torch and Lightning for cycles: two seconds of processor time.
        atexit.register(gc.freeze)
        call = _Call(name, find_saved)
        # Contexts instead of wrappers, and Hydra only composes: a traceback starts at `main`, then `run`.
        with end_with_reader(), call.report(), end_with_signals():
            sys.argv[1:] = name_paths(name, split_help(name, sys.argv[1:]))
            register_schema(name, schema)
            register_help()
            check_typed(sys.argv[1:], name)
            call.find_root()
            with call.arrange() as words:
                call.compose(words)
            call.label_jobs()
            results = []
            for cfg, of_hydra in call.jobs:
                with call.attempt(of_hydra):
                    call.check(cfg)
                    results.append(run(cfg))
            if len(call.jobs) > 1:
                end_sweep(results)
            call.end()

    return main


class _Call:
    """One call of a command: its run, or those of a sweep, and what came of them; `root` is the config to compose."""

    def __init__(self, name: str, find_saved: FindSaved | None) -> None:
        self.name, self.find_saved, self.root = name, find_saved, name
        self.shows_tracebacks = FULL_ERROR in os.environ
        self.is_incomplete = False
        self.jobs: list[tuple[DictConfig, Any]] = []
        self.mistakes: dict[str, Exception] = {}

    @contextmanager
    def report(self) -> Iterator[None]:
        """A context in which a mistake or an interruption ends the command with a message."""
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        for handler in logging.getLogger().handlers:
            handler.setLevel(logging.WARNING)
        try:
            yield
        except MISTAKES as error:
            if self.shows_tracebacks:
                raise
            print(f"weldnet-{self.name}: {explain(error, self.root)}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print(f"weldnet-{self.name}: interrupted", file=sys.stderr)
            sys.exit(130)

    def find_root(self) -> None:
        """Where `ckpt_path` is typed, composes on the run's own config, so that other keys are checked against it."""
        if self.find_saved is None:
            return
        overrides = [word for word in put_options_first(sys.argv[1:]) if re.match(r"[+~]*[\w./@:]+=", word)]
        typed = [quote_verbatim(word) for word in overrides if re.match(r"\+*ckpt_path=", word)]
        values = [override.value() for override in OverridesParser.create().parse_overrides(typed)]
        if not values or values[-1] is None:
            return
        saved = self.find_saved(str(OmegaConf.create({"value": values[-1]}).value), overrides)
        root = OmegaConf.load(str(files("weldnet.configs") / f"{self.name}.yaml"))
        root.defaults = [each for each in root.defaults if each != "recipe"]
        self.root = f"{self.name}_resumed"
        ConfigStore.instance().store(name=self.root, node=OmegaConf.merge(root, saved))

    @contextmanager
    def arrange(self) -> Iterator[list[str]]:
        """Within it, arguments and environment are as Hydra takes them; gives the arguments."""
        typed = sys.argv
        is_sweep = any(argument == "-m" or argument.startswith("--m") for argument in typed[1:])
        try:
            # Of a sweep Hydra keeps a file multirun.yaml, which in the current folder would overwrite a different one.
            with tempfile.TemporaryDirectory() if is_sweep else nullcontext() as folder:
                sweep_dir = [f"hydra.sweep.dir='{folder}'"] if is_sweep else []
                words = [
                    quote_verbatim(word, is_sweep=is_sweep) for word in put_options_first([*sweep_dir, *typed[1:]])
                ]
                if self.root != self.name:
                    # A key with a plus sign may be there already, typed when the run began.
                    words = [re.sub(r"^\+(?=[^+])", "++", word) for word in words]
                sys.argv = [typed[0], *words]
                # Without it Hydra prints its own errors its own way and exits by itself.
                os.environ[FULL_ERROR] = "1"
                yield words
        except (*MISTAKES, BrokenPipeError):
            raise
        except Exception as error:
            # Until the runs begin, only what was typed can be wrong, here or in a config file of the user's.
            message = f"a file of --config-dir: {error}" if isinstance(error, UnicodeDecodeError) else str(error)
            raise HydraException((explain_refusal(error) if isinstance(error, OSError) else None) or message) from error
        finally:
            sys.argv = typed
            if not self.shows_tracebacks:
                os.environ.pop(FULL_ERROR, None)

    def compose(self, words: list[str]) -> None:
        """Composes the config of each run, by Hydra's own command line where an option or a key of Hydra is typed."""
        if any(word.lstrip("+~").startswith(("-", "hydra")) for word in words):
            hydra.main(config_path=f"pkg://{CONFIGS}", config_name=self.root, version_base="1.3")(self.add_job)()
            return
        # Hydra's command line composes everything twice, to find out whether it is a sweep.
        with hydra.initialize_config_module(CONFIGS, version_base="1.3"):
            cfg = hydra.compose(self.root, [*words, *UNREAD], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        self.add_job(cfg)

    def add_job(self, cfg: DictConfig) -> None:
        """Keeps a config that Hydra has composed, with Hydra's own; its run need not pass through Hydra."""
        self.jobs.append((cfg, HydraConfig.instance().cfg))

    def label_jobs(self) -> None:
        """Keeps of each run of a sweep the overrides by which it differs from the others as its `override_dirname`."""
        typed = [list(of_hydra.hydra.overrides.task) for _, of_hydra in self.jobs]
        for (_, of_hydra), overrides in zip(self.jobs, typed, strict=True):
            own = [each for each in overrides if not all(each in others for others in typed)]
            with read_write(of_hydra.hydra):
                of_hydra.hydra.job.override_dirname = ",".join(own)

    def check(self, cfg: DictConfig) -> None:
        """Checks the keys of a run, its typed paths, and that `ckpt_path` was known before its config was composed."""
        check_keys(cfg)
        if "data" in cfg:
            check_paths(cfg.data, typed_keys())
            warn_of_drawing(cfg.data)
        if self.find_saved and self.root == self.name and cfg.ckpt_path is not None:
            raise InputError("ckpt_path is typed, not set in a file of --config-dir")

    @contextmanager
    def attempt(self, of_hydra: Any) -> Iterator[None]:
        """A context for one run, under Hydra's own config, that collects its errors, so that a sweep continues."""
        HydraConfig.instance().cfg = of_hydra
        overrides = " ".join(HydraConfig.get().overrides.task)
        try:
            yield
        except (InputError, OmegaConfBaseException) as error:
            self.mistakes[overrides] = error
        except OSError as error:
            message = explain_refusal(error)
            if message is None or self.shows_tracebacks:
                raise
            self.mistakes[overrides] = InputError(message)
        except SystemExit as stop:
            # 1: some files could not be read. An interruption ends the sweep.
            if stop.code != 1:
                raise
            self.is_incomplete = True
        finally:
            HydraConfig.instance().cfg = None

    def end(self) -> None:
        """Raises the collected errors."""
        if len(self.mistakes) > 1:
            lines = (f"{typed}\n    {explain(error, self.root)}" for typed, error in self.mistakes.items())
            raise InputError("\n".join([f"{len(self.mistakes)} runs of this sweep have not been made", *lines]))
        for mistake in self.mistakes.values():
            raise mistake
        if self.is_incomplete:
            sys.exit(1)
