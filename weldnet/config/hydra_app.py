"""The wrapper around Hydra's entry point: values as typed, and one message for a user's mistake."""

import logging
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from importlib.resources import files

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from weldnet.config.build import check_keys
from weldnet.config.literal import escape
from weldnet.config.mistakes import check_typed, explain, takes_value
from weldnet.config.schema import register_schemas
from weldnet.errors import InputError
from weldnet.files import explain_refusal, is_refusal

log = logging.getLogger(__name__)

CONFIGS = "pkg://weldnet.configs"

VERBATIM = {
    "output_dir",
    "ckpt_path",
    "data.root",
    "data.manifest",
    "data.group_pattern",
    "data.cache_dir",
    "model.weights",
    "audit.suggest_split",
    "evaluation.vocabulary",
    "source",
    "sort_into",
    "target",
    "serve.records",
}
"""Keys whose values are paths, globs or regular expressions: taken as typed, not as Hydra's grammar has them."""


def quote_verbatim(argument: str, *, is_sweep: bool = False) -> str:
    """An override with the value of a verbatim key quoted for Hydra; any other argument as it is.

    `null` and a value already between quotes stay.

    Args:
        is_sweep: `${key}` in output_dir stands for the value of that key, so that each run has a folder of its own.

    Raises:
        InputError: the value is empty, as of a shell variable that is not set; as a path it would be this folder.
    """
    match = re.fullmatch(r"(\+{0,2})([\w.]+)=(.*)", argument, re.DOTALL)
    if (
        match is None
        or match[2] not in VERBATIM
        or match[3] == "null"
        or re.fullmatch(r"(['\"]).*\1", match[3], re.DOTALL)
    ):
        return argument
    if not match[3]:
        raise InputError(f"{match[2]}= is empty; type a value after it, or leave it out")
    # Hydra reads a backslash only before a quote, OmegaConf only before `${`; there, each must be doubled.
    value = match[3]
    if not (is_sweep and match[2] == "output_dir"):
        value = escape(value)
    value = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + (r"\'" if m[2] else ""), value)
    return f"{match[1]}{match[2]}='{value}'"


def put_options_first(arguments: list[str]) -> list[str]:
    """The arguments with the options, and their values, before the overrides: Hydra takes no other order."""
    pairs = zip(["", *arguments], arguments, strict=False)
    ordered = sorted(pairs, key=lambda pair: not (pair[1].startswith("-") or takes_value(pair[0])))
    return [argument for _, argument in ordered]


def warn_of_no_effect(keys: Collection[str], where: str) -> None:
    """Names those of these keys that were typed, though they change nothing `where`."""
    for override in HydraConfig.get().overrides.task:
        key = override.partition("=")[0].lstrip("+")
        if key in keys:
            log.warning("%s has no effect with %s", key, where)


@contextmanager
def _heed_sigterm() -> Iterator[None]:
    """Within it, SIGTERM ends the command as Ctrl-C does: by an exception, after which it can say how to resume.

    At once: Lightning alone waits for the end of a step, which may never come.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _arranged(*, is_resumed: bool = False) -> Iterator[None]:
    """Within it, arguments and environment are as Hydra takes them.

    Args:
        is_resumed: a key with a plus sign may be there already, typed when the run began.
    """
    typed, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    is_sweep = any(argument == "-m" or argument.startswith("--m") for argument in typed[1:])
    # Of a sweep Hydra keeps a file multirun.yaml, which in the current folder would overwrite another one.
    with tempfile.TemporaryDirectory() if is_sweep else nullcontext() as folder:
        own = [f"hydra.sweep.dir='{folder}'"] if is_sweep else []
        words = [quote_verbatim(word, is_sweep=is_sweep) for word in put_options_first([*own, *typed[1:]])]
        sys.argv = [typed[0], *(re.sub(r"^\+(?=[^+])", "++", word) if is_resumed else word for word in words)]
        # Without it Hydra prints its own errors its own way and exits by itself.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        try:
            yield
        finally:
            sys.argv = typed
            del os.environ["HYDRA_FULL_ERROR"]
            if full_error is not None:
                os.environ["HYDRA_FULL_ERROR"] = full_error


FindSaved = Callable[[str, list[str]], DictConfig]
"""From `ckpt_path` and all overrides to the config of the run to resume."""


def _compose_on_saved(config_name: str, find_saved: FindSaved) -> str:
    """The config to compose: where `ckpt_path` is typed, the run's own instead of the default groups.

    So what is typed is checked against the keys that the run has, by the same rules and with the same messages.
    """
    overrides = [word for word in put_options_first(sys.argv[1:]) if re.match(r"[+~]*[\w./@:]+=", word)]
    ckpt_path = None
    for word in overrides:
        if re.match(r"\+*ckpt_path=", word):
            value = OverridesParser.create().parse_override(quote_verbatim(word)).value()
            ckpt_path = OmegaConf.create({"value": value}).value
    if ckpt_path is None:
        return config_name
    root = OmegaConf.load(str(files("weldnet.configs") / f"{config_name}.yaml"))
    root.defaults = [each for each in root.defaults if each != "recipe"]
    name = f"{config_name}_resumed"
    ConfigStore.instance().store(name=name, node=OmegaConf.merge(root, find_saved(str(ckpt_path), overrides)))
    return name


def command(
    config_name: str, find_saved: FindSaved | None = None
) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Makes a console script of a function that takes the composed config.

    A user's mistake ends in one message on standard error and exit code 2; HYDRA_FULL_ERROR=1 shows the traceback.
    Ctrl-C and SIGTERM end it by exit code 130.

    Args:
        config_name: of the root config, and of the script.
        find_saved: for a command that resumes a run.
    """

    def decorate(run: Callable[[DictConfig], None]) -> Callable[[], None]:
        def main() -> None:
            logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
            for handler in logging.getLogger().handlers:
                handler.setLevel(logging.WARNING)
            root = config_name
            try:
                with _heed_sigterm():
                    check_typed(sys.argv[1:])
                    register_schemas()
                    root = config_name if find_saved is None else _compose_on_saved(config_name, find_saved)
                    _run_hydra(run, root, is_resumed=root != config_name)
            except (InputError, HydraException, OmegaConfBaseException) as error:
                if "HYDRA_FULL_ERROR" in os.environ:
                    raise
                print(f"weldnet-{config_name}: {explain(error, root)}", file=sys.stderr)
                sys.exit(2)
            except KeyboardInterrupt:
                print(f"weldnet-{config_name}: interrupted", file=sys.stderr)
                sys.exit(130)

        return end_with_reader(main)

    return decorate


def end_with_reader(main: Callable[[], None]) -> Callable[[], None]:
    """`main`, ended quietly when who reads its output has gone, as `head` has; by the exit code of SIGPIPE."""

    def wrapped() -> None:
        try:
            try:
                main()
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            try:
                sys.stdout.flush()
            except BrokenPipeError:
                # Python flushes once more when it ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(128 + signal.SIGPIPE)
            # The pipe to something else.
            raise

    return wrapped


class _Runs:
    """The run that was asked for, or those of a sweep, and what came of them."""

    def __init__(self, run: Callable[[DictConfig], None], config_name: str) -> None:
        self.run, self.config_name = run, config_name
        self.shows_tracebacks = "HYDRA_FULL_ERROR" in os.environ
        self.has_begun = self.is_incomplete = False
        self.mistakes: dict[str, Exception] = {}

    def make(self, cfg: DictConfig) -> None:
        """Makes one run."""
        self.has_begun = True
        # Raised through Hydra, a mistake would print a line of Hydra's first, and end a sweep.
        overrides = " ".join(HydraConfig.get().overrides.task)
        try:
            check_keys(cfg)
            with _quiet_threads():
                self.run(cfg)
        except (InputError, OmegaConfBaseException) as error:
            self.mistakes[overrides] = error
        except OSError as error:
            words = explain_refusal(error)
            if words is None or self.shows_tracebacks:
                raise
            self.mistakes[overrides] = InputError(words)
        except SystemExit as stop:
            # 1: some files could not be read. An interruption ends the sweep.
            if stop.code != 1:
                raise
            self.is_incomplete = True

    def end(self) -> None:
        """Raises what is to be told of all of them."""
        if len(self.mistakes) > 1:
            lines = (f"{typed}\n    {explain(error, self.config_name)}" for typed, error in self.mistakes.items())
            words = "\n".join([f"{len(self.mistakes)} runs of this sweep have not been made", *lines])
            raise InputError(words) from next(iter(self.mistakes.values()))
        for mistake in self.mistakes.values():
            raise mistake
        if self.is_incomplete:
            sys.exit(1)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Within it, a thread that the disk refuses prints no traceback: who waits for it gets the error, too."""
    show = threading.excepthook

    def skip_refusals(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is None or not is_refusal(args.exc_value):
            show(args)

    threading.excepthook = skip_refusals
    try:
        yield
    finally:
        threading.excepthook = show


def _run_hydra(run: Callable[[DictConfig], None], config_name: str, *, is_resumed: bool) -> None:
    runs = _Runs(run, config_name)
    try:
        with _arranged(is_resumed=is_resumed):
            hydra.main(config_path=CONFIGS, config_name=config_name, version_base="1.3")(runs.make)()
    except Exception as error:
        # Until the command begins, all that can be wrong is what was typed, here or in a file of one's own.
        if runs.has_begun or isinstance(error, (HydraException, OmegaConfBaseException, BrokenPipeError)):
            raise
        why = f"a file of --config-dir: {error}" if isinstance(error, UnicodeDecodeError) else str(error)
        raise InputError((explain_refusal(error) if isinstance(error, OSError) else None) or why) from error
    runs.end()
