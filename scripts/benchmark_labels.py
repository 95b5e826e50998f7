"""Which share of wrong labels `weldnet-audit crossval=RUN` finds, and how many of those that it names are wrong.

Where cleanlab is installed, which nothing needs, its `find_label_issues` names labels by the same predictions.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from benchmark_common import Options
from rich.console import Console
from rich.table import Table

from weldnet.audit.labels import HeldOut, find_label_errors
from weldnet.console import print_table
from weldnet.data.sources.manifest import read_manifest, write_manifest
from weldnet.evaluation.arrays import Floats, Labels
from weldnet.synthetic.drawn_set import write_synthetic
from weldnet.training.fold_ensemble import read_held_out

NUM_IMAGES, NUM_SEAMS, SHARE = 1000, 50, 0.05

TRAINING = [
    "experiment=demo",
    "model=timm",
    "model.backbone=test_resnet",
    "model.zero_init_residual=false",
    "data=manifest",
    "data.manifest=wrong.csv",
    "data.batch_size=32",
    "optimizer.lr=4e-3",
    "trainer=cpu",
    "trainer.max_epochs=12",
    "callbacks.dashboard=null",
    "logger.tensorboard=null",
    "num_folds=5",
    "output_dir=run",
]


FILTERS = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "low_self_confidence")

Finder = Callable[[Floats, Labels], Labels]


def list_finders() -> dict[str, Finder]:
    """What names rows by probabilities and labels, the most doubtful one first."""
    finders: dict[str, Finder] = {"weldnet": find_label_errors}
    if find_spec("cleanlab") is None:
        print("cleanlab is not installed, so nothing is compared with it")
        return finders
    find_issues = import_module("cleanlab.filter").find_label_issues
    settings = {"return_indices_ranked_by": "self_confidence", "n_jobs": 1}

    def find(probabilities: Floats, labels: Labels, filter_by: str) -> Labels:
        return np.asarray(find_issues(labels, probabilities, filter_by=filter_by, **settings), np.int64)

    return finders | {f"cleanlab, {each}": partial(find, filter_by=each) for each in FILTERS}


def change_labels(samples: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """The samples, a share of them drawn at random under a different label of the set, without splits."""
    generator, labels = np.random.default_rng(seed), samples["label"].to_list()
    classes = sorted(set(labels))
    for row in generator.choice(len(labels), round(SHARE * len(labels)), replace=False):
        labels[row] = generator.choice([each for each in classes if each != labels[row]])
    return samples.with_columns(label=pl.Series(labels), split=pl.lit(None, pl.String))


def measure(named: list[str], wrong: set[str]) -> dict[str, float]:
    """How many images are named, precision and recall, and the precision of the first half as many as are wrong."""
    hits, half = [path in wrong for path in named], len(wrong) // 2
    return {
        "named": float(len(hits)),
        "precision": float(np.mean(hits)),
        "recall": sum(hits) / len(wrong),
        f"first {half}": float(np.mean(hits[:half])),
    }


def redraw(held_out: HeldOut, samples: pl.DataFrame, draws: range, find: Finder) -> dict[str, list[float]]:
    """Mean and standard deviation of the same figures where other labels are changed, beside the same predictions.

    A prediction out of fold is that of a network that has not seen the image, so nor its label.
    """
    # In the order of the predictions; the classes are those of the probabilities, sorted as they are.
    samples = held_out.images.select("path").join(samples, on="path", maintain_order="left")
    kind, figures = pl.Enum(sorted(samples["label"].unique())), []
    for seed in draws:
        changed = change_labels(samples, seed)
        labels = changed["label"].cast(kind).to_physical().to_numpy().astype(np.int64)
        rows = find(held_out.probabilities, labels)
        wrong = samples.filter(samples["label"] != changed["label"])["path"]
        figures.append(measure(samples["path"].gather(rows).to_list(), set(wrong)))
    values = {name: np.array([each[name] for each in figures]) for name in figures[0]}
    return {name: [float(column.mean()), float(column.std())] for name, column in values.items()}


def run(options: Options) -> dict[str, Any]:
    """Changes labels of drawn welds, cross-validates, audits; the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = read_manifest(write_synthetic(folder / "welds", num_images=NUM_IMAGES, num_seams=NUM_SEAMS, seed=0))
        changed = change_labels(samples)
        write_manifest(changed, folder / "wrong.csv")
        call(folder, "crossval", *TRAINING)
        call(folder, "audit", "data=manifest", "data.manifest=wrong.csv", "crossval=run", "output_dir=audit")
        findings = json.loads((folder / "audit" / "audit.json").read_text("utf-8"))["findings"]
        held_out = read_held_out(folder / "run")
        named = [found["paths"][0] for found in findings if found["kind"] == "label_error"]
        return {
            "audit": measure(named, set(samples.filter(samples["label"] != changed["label"])["path"])),
            "redrawn": {name: redraw(held_out, samples, range(1, 101), find) for name, find in list_finders().items()},
        }


def call(folder: Path, command: str, *arguments: str) -> None:
    """Runs a command in a folder; it prints its own progress."""
    subprocess.run([Path(sys.executable).with_name(f"weldnet-{command}"), *arguments], cwd=folder, check=True)


def show(figures: dict[str, Any]) -> None:
    """The figures as a table."""
    table = Table("", *figures["audit"], title="the audit; of 100 other draws mean and standard deviation")
    table.add_row("the audit", *(f"{value:.2f}" for value in figures["audit"].values()))
    for name, values in figures["redrawn"].items():
        table.add_row(name, *(f"{mean:.2f} ({deviation:.2f})" for mean, deviation in values.values()))
    print_table(table, Console())
