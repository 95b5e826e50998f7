"""weldnet runs: list the finished runs, their figures, and what differs between them."""

import sys
from pathlib import Path

from weldnet.config.run_table import MOST_RUNS, tabulate_runs
from weldnet.console import print_table
from weldnet.inference.finished_runs import RUNS, find_best, find_newest_run, list_finished


def main() -> None:
    """`weldnet runs [DIR]`: prints the table of the runs and trials of sweeps below `runs`, or those in a folder."""
    folder = (Path(sys.argv[1]) if sys.argv[1:] else RUNS).expanduser().absolute()
    sweeps = [] if len(sys.argv) > 1 else folder.with_name("sweep").glob("*")
    runs = list_finished(folder, *sweeps)
    if not runs or len(sys.argv) > 2:
        print(f"weldnet runs: no finished run below {folder}; type weldnet runs DIR", file=sys.stderr)
        sys.exit(2)
    meaning = "ckpt_path=best: the best on validation of the runs with the newest one's images and splits"
    print_table(tabulate_runs(runs[:MOST_RUNS], find_best(folder, find_newest_run(folder)), meaning))
