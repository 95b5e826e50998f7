#!/usr/bin/env python3
"""What weldnet's speed is, beside the bare cost and a plain PyTorch way, in one run.

    scripts/benchmark.py train [manifest=FILE] [json=FILE] [repeats=5] [steps=12]
    scripts/benchmark.py shared [json=FILE] [repeats=5] [steps=12]
    scripts/benchmark.py device [json=FILE] [steps=12]
    scripts/benchmark.py data  [manifest=FILE] [json=FILE] [repeats=5]
    scripts/benchmark.py scale [json=FILE]
    scripts/benchmark.py predict [manifest=FILE] [ckpt_path=RUN] [json=FILE] [repeats=5]
    scripts/benchmark.py serve [json=FILE]
    scripts/benchmark.py damage [json=FILE]
    scripts/benchmark.py labels [json=FILE]
    scripts/benchmark.py audit manifest=FILE tiles=FILE [json=FILE]

`compare=OLD.json` shows what has moved since the run that wrote it by json=OLD.json. It runs with the project's .venv.
Without a manifest it draws its own photographs, 1920 x 1080. What is compared takes turns, so that a machine whose
speed drifts slows all of it; the ratios are medians over the turns.
"""

import json
import logging
import sys

from own_python import use_own_python

use_own_python()

import benchmark_audit
import benchmark_damage
import benchmark_data
import benchmark_device
import benchmark_labels
import benchmark_predict
import benchmark_scale
import benchmark_serve
import benchmark_shared
import benchmark_train
from benchmark_common import machine, parse_options, read_figures, show_moves

from weldnet.console import print_table
from weldnet.errors import InputError
from weldnet.hardware.devices import use_available_cores

BENCHMARKS = {
    "train": benchmark_train,
    "shared": benchmark_shared,
    "device": benchmark_device,
    "data": benchmark_data,
    "scale": benchmark_scale,
    "predict": benchmark_predict,
    "serve": benchmark_serve,
    "damage": benchmark_damage,
    "labels": benchmark_labels,
    "audit": benchmark_audit,
}


def main(arguments: list[str]) -> int:
    """Runs one benchmark; 2 for a wrong argument."""
    try:
        if not arguments or arguments[0] not in BENCHMARKS:
            raise InputError(f"the first argument is the benchmark; there are: {', '.join(BENCHMARKS)}")
        options = parse_options(arguments[1:])
        old = read_figures(options.compare) if options.compare else None
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        use_available_cores()
        benchmark = BENCHMARKS[arguments[0]]
        figures = benchmark.run(options) | machine()
    except InputError as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 2
    benchmark.show(figures)
    if old is not None:
        # As it is read back: lists for tuples.
        print_table(show_moves(old, json.loads(json.dumps(figures))))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
