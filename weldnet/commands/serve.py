"""weldnet-serve: verdicts over HTTP, and on one page, until it is stopped."""

import os
import re
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from weldnet.config.hydra_app import command
from weldnet.config.runs import make_folder, name_folder, show
from weldnet.config.schema import ModelKeys, take
from weldnet.errors import InputError, propose_extra
from weldnet.inference.settings import EngineSettings
from weldnet.serve.limits import ServeSettings

API_KEY = "WELDNET_API_KEY"
"""The environment variable: what stands on a command line, every user of the machine can read."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""The names of this machine to itself."""

NEEDED = ("fastapi", "fastapi_offline", "prometheus_client", "python_multipart", "uvicorn")


@dataclass
class ServeConfig(EngineSettings, ModelKeys):
    """The keys of `weldnet-serve`."""

    host: str = "127.0.0.1"
    port: int = 8000
    serve: ServeSettings = field(default_factory=ServeSettings)


def run(cfg: DictConfig) -> None:
    """Serves a model from a composed config, until SIGTERM or Ctrl-C."""
    _check_installed()
    from weldnet.inference.predictor import Predictor, find_model, load_engine, name_run
    from weldnet.serve import process
    from weldnet.serve.app import create_app
    from weldnet.serve.limits import Limits
    from weldnet.serve.records import DecisionRecords

    limits, api_key = take(Limits, cfg.serve), _read_key()
    file = _find_records(cfg.serve.records, cfg.output_dir)
    with process.bind(cfg.host, cfg.port) as bound:
        model = find_model(cfg.ckpt_path)
        engine = load_engine(str(model), device=cfg.device, precision=cfg.precision)
        process.give_memory_back()
        if cfg.serve.records is None:
            make_folder(file.parent)
        is_local, named = process.is_loopback(bound), {str(name).lower() for name in cfg.serve.hosts}
        hosts = {*LOOPBACK, cfg.host.lower(), *named} if is_local or named or api_key is None else None
        with Predictor(engine) as predictor, DecisionRecords(file, engine.facts) as records:
            app = create_app(predictor, records, limits, run=name_run(model), api_key=api_key, hosts=hosts)
            server = process.make_server(app, 2 * limits.request_timeout_s)
            process.log_as_json()
            process.take_signals(server, app.state.service)
            # From here on whoever connects is answered.
            bound.listen()
            print(f"weldnet-serve: {process.show_address(cfg.host, bound)}  (Ctrl-C ends it)")
            facts = engine.facts
            print(f"model:     {name_run(model)}, {facts.digest[:12]}, {facts.runtime}")
            for reason in facts.point.reasons if facts.calibrated else ():
                print(f"           {reason}")
            print(f"decisions: {show(file)}", flush=True)
            if not is_local and api_key is None:
                print(
                    f"WARNING: host={cfg.host} is open to the network and asks for no key; set {API_KEY}, or put a "
                    "proxy in front",
                    file=sys.stderr,
                    flush=True,
                )
            process.run_server(server, bound)


def _check_installed() -> None:
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise InputError(f"weldnet-serve needs {', '.join(missing)}; type {propose_extra('serve')}")


def _read_key() -> str | None:
    key = os.environ.get(API_KEY)
    if key is not None and not re.fullmatch(r"[!-~]{16,}", key):
        raise InputError(
            f"{API_KEY} holds {len(key)} characters; a key has 16 or more, letters, digits and signs of ASCII without "
            f"blanks. Unset {API_KEY} to serve without one"
        )
    return key


def _find_records(records: str | None, output_dir: str | None) -> Path:
    if records is None:
        return name_folder("serve", output_dir) / "decisions.jsonl"
    if output_dir is not None:
        raise InputError("output_dir and serve.records both set where the decisions go; give one of them")
    return Path(records).expanduser().absolute()


main = command("serve", run, ServeConfig)
