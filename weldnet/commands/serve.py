"""weldnet-serve: verdicts over HTTP, and on one page, until it is stopped."""

import os
import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from weldnet.config.hydra_app import command, warn_of_no_effect
from weldnet.config.runs import make_folder, name_folder, name_new_file, show
from weldnet.config.schema import ModelKeys, take
from weldnet.errors import InputError, count, propose_extra
from weldnet.hardware import give_memory_back
from weldnet.inference.settings import EngineSettings
from weldnet.serve.limits import ServeSettings

if TYPE_CHECKING:
    from weldnet.inference.model_card import ModelFacts
    from weldnet.serve.kept_images import KeptImages

API_KEY = "WELDNET_API_KEY"
"""The environment variable: what stands on a command line, every user of the machine can read."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""The names of this machine to itself."""

NEEDED = ("fastapi", "fastapi_offline", "prometheus_client", "python_multipart", "uvicorn")


@dataclass
class ServeConfig(EngineSettings, ModelKeys):
    """The keys of `weldnet-serve`: `export` names a manifest to write of its reviews, instead of serving."""

    host: str = "127.0.0.1"
    port: int = 8000
    export: str | None = None
    serve: ServeSettings = field(default_factory=ServeSettings)


def run(cfg: DictConfig) -> None:
    """Serves a model from a composed config, until SIGTERM or Ctrl-C; or writes its reviews as a manifest."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise InputError(f"weldnet-serve needs {', '.join(missing)}; type {propose_extra('serve')}")
    if cfg.export is not None:
        _export(cfg)
        return
    from weldnet.inference.predictor import Predictor, find_model, load_engine, name_run
    from weldnet.serve import process
    from weldnet.serve.app import create_app
    from weldnet.serve.limits import Limits
    from weldnet.serve.records import DecisionRecords

    limits, api_key = take(Limits, cfg.serve), _read_key()
    file = _find_records(cfg.serve.records, cfg.output_dir)
    with process.bind(cfg.host, cfg.port) as bound, ExitStack() as opened:
        model = find_model(cfg.ckpt_path)
        engine = load_engine(str(model), device=cfg.device, precision=cfg.precision)
        give_memory_back()
        if cfg.serve.records is None:
            make_folder(file.parent)
        is_local, named = process.is_loopback(bound), {str(name).lower() for name in cfg.serve.hosts}
        hosts = {*LOOPBACK, cfg.host.lower(), *named} if is_local or named or api_key is None else None
        predictor = opened.enter_context(Predictor(engine))
        records = opened.enter_context(DecisionRecords(file, engine.facts))
        images = _open_images(cfg.serve, opened)
        app = create_app(predictor, records, limits, run=name_run(model), images=images, api_key=api_key, hosts=hosts)
        server = process.make_server(app, 2 * limits.request_timeout_s)
        process.log_as_json()
        process.take_signals(server, app.state.service)
        # From here on whoever connects is answered.
        bound.listen()
        print(f"weldnet-serve: {process.show_address(cfg.host, bound)}  (Ctrl-C ends it)")
        _announce(name_run(model), engine.facts, file, images)
        if not is_local and api_key is None:
            print(
                f"WARNING: host={cfg.host} is open to the network and asks for no key; set {API_KEY}, or put a "
                "proxy in front",
                file=sys.stderr,
                flush=True,
            )
        process.run_server(server, bound)


def _announce(run: str, facts: "ModelFacts", records: Path, images: "KeptImages | None") -> None:
    print(f"model:     {run}, {facts.digest[:12]}, {facts.runtime}")
    for reason in facts.point.reasons if facts.calibrated else ():
        print(f"           {reason}")
    if images:
        used, most = ((each / 1e6) for each in (images.reviewed_bytes, images.max_bytes))
        print(f"kept:      photographs of reviewed decisions in {show(images.folder)}, {used:,.1f} of {most:,.1f} MB")
    print(f"decisions: {show(records)}", flush=True)


def _open_images(settings: DictConfig, opened: ExitStack) -> "KeptImages | None":
    from weldnet.serve.kept_images import KeptImages

    if settings.keep_images is None:
        warn_of_no_effect(["serve.keep_images_mb"], "serve.keep_images=null")
        return None
    folder = Path(settings.keep_images).expanduser().absolute()
    make_folder(folder, "serve.keep_images")
    return opened.enter_context(KeptImages(folder, settings.keep_images_mb * 1e6))


def _export(cfg: DictConfig) -> None:
    """Writes the manifest of the reviews; a server may run meanwhile."""
    from weldnet.files import write_csv
    from weldnet.serve.review_manifest import make_manifest

    unused = [f"serve.{key}" for key in cfg.serve if key not in ("records", "keep_images")]
    warn_of_no_effect(["ckpt_path", "host", "port", "device", "precision", "output_dir", *unused], "export")
    file = name_new_file("export", cfg.export)
    if cfg.serve.records is None or cfg.serve.keep_images is None:
        raise InputError("export needs serve.records=FILE and serve.keep_images=DIR, as the server was given them")
    records, folder = (Path(each).expanduser().absolute() for each in (cfg.serve.records, cfg.serve.keep_images))
    table, left_out = make_manifest(records, folder)
    assert file is not None
    write_csv(file, table)
    labels = ", ".join(f"{label} {number:,}" for label, number in table["label"].value_counts().sort("label").rows())
    num_groups = table["group"].drop_nulls().n_unique()
    print(f"{show(file)}: {count(len(table), 'photograph')} ({labels}) of {count(num_groups, 'group')}")
    for reason, number in left_out.items():
        print(f"left out:  {count(number, 'review')} {reason}")
    if not num_groups:
        print("no review and no decision has a reference; type data.group_by to say which weld each photograph shows")


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
