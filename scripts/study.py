#!/usr/bin/env python3
"""Which recipe is right on welds it has never seen: a table of recipes over sets and seeds, and the one final scoring.

    scripts/study.py --output DIR --plan                       what it would cost
    scripts/study.py --output DIR                              on drawn welds alone
    scripts/study.py --output DIR --manifest tiles=FILE.csv    and on photographs of your own
    scripts/study.py --output DIR --round finalists --recipes origin calm
    scripts/study.py --output DIR --manifest ... --score calm  the tests: once

Each recipe is a list of overrides in scripts/study.yaml, as weldnet-train takes them. The same command again resumes
where it stopped. --workers N, or several such commands on one output folder at the same time, share the cells; each
process uses one core, unless OMP_NUM_THREADS says otherwise. docs/recipe.md holds the rule of choice.
"""

import argparse
import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from own_python import use_own_python

if __name__ == "__main__":
    use_own_python()
    # Before torch is imported: a core for each process.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from study_cells import RESULT, STEP, Cell, Study, plan_cells, read_study, run_cell, time_operations
from study_table import Row, choose, measure_chance, tabulate, write_table

from weldnet.errors import InputError, check_choice
from weldnet.files import write_json

SCORE = "score"
"""The round that `--score` runs."""

SEAL = "scorings.json"
"""Below the output folder: each scoring of the tests, with what was scored."""


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="of cells, tables and decoded images")
    default = Path(__file__).with_suffix(".yaml")
    parser.add_argument("--study", type=Path, default=default, metavar="FILE", help="recipes, sets and rounds")
    parser.add_argument("--round", default="screening", help="which round of the study (default: screening)")
    parser.add_argument("--recipes", nargs="+", metavar="NAME", help="instead of the round's")
    parser.add_argument("--manifest", action="append", default=[], metavar="SET=FILE", help="the images of a set")
    parser.add_argument("--hours", type=float, metavar="N", help="stop before N hours of processor time are spent")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the cells")
    parser.add_argument("--plan", action="store_true", help="print what it would cost, and train nothing")
    parser.add_argument("--score", metavar="RECIPE", help="score the tests with the baseline and this recipe: once")
    parser.add_argument("--again", action="store_true", help="score them once more; the table counts the scorings")
    return parser.parse_args(arguments)


def read_manifests(arguments: Sequence[str], known: Sequence[str]) -> dict[str, Path]:
    """The files of `SET=FILE` arguments."""
    manifests = {}
    for argument in arguments:
        name, _, file = argument.partition("=")
        check_choice("--manifest", name, known)
        if not Path(file).is_file():
            raise InputError(f"--manifest {argument}: no file {file}; type --manifest {name}=FILE.csv")
        manifests[name] = Path(file).absolute()
    return manifests


class Budget:
    """The processor time of a round: spent, and what is left to do at the pace so far.

    Args:
        cells: of the round.
        hours: the most that may be spent; None for no limit.
    """

    def __init__(self, cells: Sequence[Cell], hours: float | None) -> None:
        self.cells, self.hours = cells, hours

    @cached_property
    def first_pace(self) -> float:
        return time_operations(self.cells[0])

    def pace(self) -> float:
        """Seconds of a floating-point operation: of the cells so far, or of a few steps."""
        done = [(result["cost_s"], cell.work) for cell in self.cells if (result := cell.read()) and "epoch_s" in result]
        if done:
            return float(sum(cost for cost, _ in done) / sum(work for _, work in done))
        return self.first_pace

    def spent(self) -> float:
        """By all cells of the round in the output folder, those of other recipes as well."""
        files = self.cells[0].folder.parent.glob(f"*/{RESULT}")
        results = [json.loads(file.read_text("utf-8")) for file in files]
        return float(sum(each["cost_s"] for each in results if each["round"] == self.cells[0].round))

    def left(self) -> float:
        return self.pace() * sum(cell.work for cell in self.cells if not cell.read())

    def allows(self, cell: Cell) -> bool:
        return self.hours is None or self.spent() + self.pace() * cell.work <= self.hours * 3600

    def describe(self) -> str:
        limit = "" if self.hours is None else f" of {show_time(self.hours * 3600)}"
        done, left = f"{count_done(self.cells)} of {len(self.cells)} cells", show_time(self.left())
        return f"{done}; about {left} of processor time left, {show_time(self.spent())}{limit} spent"

    def describe_recipe(self, recipe: str) -> str:
        own = [cell for cell in self.cells if cell.recipe == recipe]
        left, pace = [cell for cell in own if not cell.read()], self.pace()
        rate = 1 / (STEP * own[0].operations * pace)
        time_left = show_time(pace * sum(cell.work for cell in left))
        return f"{len(left)} of {len(own)} cells left, {time_left} at {rate:.0f} images/s"


def show_time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def run_round(cells: Sequence[Cell], budget: Budget) -> None:
    """Trains and measures each cell that is not measured yet, and that no other process has taken.

    Whatever hinders one, the others are measured; a message and exit code 1 then name it.
    """
    failed = []
    for cell in cells:
        if cell.read():
            continue
        if not budget.allows(cell):
            print(f"{cell}: would take more than the {show_time((budget.hours or 0) * 3600)} that may be spent")
            break
        print(f"\n{cell}: about {show_time(budget.pace() * cell.work)}; {budget.describe()}", flush=True)
        try:
            result = run_cell(cell)
        except Exception:
            traceback.print_exc()
            failed.append(str(cell))
            continue
        if result is None:
            print("another process is at work on it")
        elif "error" in result:
            print(f"failed: {result['error']}")
        else:
            print(
                f"balanced accuracy {result['balanced_accuracy']:.3f}, loss {result['loss']:.3f}, "
                f"{result['images_per_s']:.1f} images/s"
            )
    if failed:
        sys.exit(f"study.py: not measured: {'; '.join(failed)}; the same command tries again")


def share_round(cells: Sequence[Cell], budget: Budget, workers: int) -> None:
    """Measures a round in so many processes; CUDA and polars forbid to fork them."""
    start = multiprocessing.get_context("spawn").Process
    others = [start(target=run_round, args=(cells, budget)) for _ in range(workers - 1)]
    for other in others:
        other.start()
    try:
        run_round(cells, budget)
    except KeyboardInterrupt:
        for other in others:
            other.terminate()
        raise
    finally:
        for other in others:
            other.join()
    if failed := [other for other in others if other.exitcode]:
        sys.exit(f"study.py: {len(failed)} of {workers} processes failed; the same command resumes")


def list_choosing(study: Study, name: str, cells: Sequence[Cell]) -> list[str]:
    """The sets of a round by which a recipe is chosen, those that are there."""
    measured = {cell.set for cell in cells}
    return [each for each, images in study.rounds[name].sets.items() if images.chooses and each in measured]


def count_done(cells: Sequence[Cell]) -> int:
    return sum(cell.read() is not None for cell in cells)


def summarise(study: Study, name: str, recipes: Sequence[str], cells: Sequence[Cell], output: Path) -> None:
    """Writes the table of a round and prints it."""
    choosing, file = list_choosing(study, name, cells), output / f"{name}.md"
    text, num_written = "", -1
    # Another process may measure the last cell, and write its table before this one is written.
    while num_written != (num_done := count_done(cells)):
        rows = tabulate(cells, {recipe: study.recipes[recipe] for recipe in recipes}, study.baseline, choosing)
        notes = describe_table(study, name, choosing, cells, rows, output)
        text, num_written = write_table(rows, file, notes, study.baseline), num_done
    print(f"\n{text}\nthe table: {file}, {file.with_suffix('.json')}")


def describe_table(
    study: Study, name: str, choosing: Sequence[str], cells: Sequence[Cell], rows: Sequence[Row], output: Path
) -> list[str]:
    """The sentences below a table."""
    part, num_done = study.rounds[name], count_done(cells)
    notes = [
        f"{num_done} of {len(cells)} cells, {date.today()}. All recipes: `{' '.join(part.common)}`; seeds "
        f"{', '.join(map(str, sorted({cell.seed for cell in cells})))}. Balanced accuracy: mean over the seeds ± their "
        "standard deviation (95 % of a bootstrap of whole groups), and the same interval of the difference to "
        f"`{study.baseline}`. Gain: the share of its errors that a recipe avoids, over {', '.join(choosing)}. Cost in "
        f"times of `{study.baseline}`, by processor time where there is no GPU.",
    ]
    if (chance := measure_chance(rows, study.baseline, choosing)) is not None:
        notes.append(f"Chance: the spread of `{study.baseline}` over its own seeds is a gain of {chance:.2f}.")
    if missing := [str(cell) for cell in cells if not cell.read()]:
        notes.append(f"Not measured yet: {'; '.join(missing)}.")
    if commits := sorted({str(result["commit"]) for cell in cells if (result := cell.read())}):
        notes.append(f"weldnet at {', '.join(commits)}.")
    if name == SCORE:
        notes.append(f"Scoring number {len(json.loads((output / SEAL).read_text()))} of these tests.")
    elif num_done == len(cells) and (chosen := choose(rows)):
        notes.append(f"By the rule of docs/recipe.md: `{chosen.recipe}`.")
    return notes


def seal(output: Path, scored: dict[str, Any], again: bool) -> None:
    """Notes what is about to be scored; a second scoring is refused, a stopped one of the same recipe resumed.

    Raises:
        InputError: the tests were scored before.
    """
    file = output / SEAL
    before = json.loads(file.read_text()) if file.exists() else []
    if before and not again:
        last = before[-1]
        if last["is_complete"] or {key: last[key] for key in scored} != scored:
            raise InputError(
                f"the tests were scored on {last['date']} with {last['recipe']} ({file}); a choice that has seen them "
                "is worth less. --again scores once more, and the table counts the scorings"
            )
        return
    output.mkdir(parents=True, exist_ok=True)
    write_json(file, [*before, scored | {"date": str(date.today()), "is_complete": False}])


def complete_seal(output: Path) -> None:
    scorings = json.loads((output / SEAL).read_text())
    scorings[-1]["is_complete"] = True
    write_json(output / SEAL, scorings)


def main(arguments: list[str]) -> int:
    """Runs, plans or scores a study; 2 for a mistake."""
    args = read_arguments(arguments)
    try:
        run(args)
    except InputError as error:
        print(f"study.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("study.py: interrupted; the same command resumes", file=sys.stderr)
        return 130
    return 0


def run(args: argparse.Namespace) -> None:
    study, output = read_study(args.study), args.output.absolute()
    name = SCORE if args.score else args.round
    check_choice("--round", name, list(study.rounds))
    if name == SCORE and not args.score:
        raise InputError(f"--round {SCORE}: the tests are scored by --score RECIPE, once")
    part = study.rounds[name]
    recipes = args.recipes or part.recipes or list(study.recipes)
    recipes = list(dict.fromkeys([study.baseline, *([args.score, *(part.recipes or [])] if args.score else recipes)]))
    for recipe in recipes:
        check_choice("--score" if args.score else "--recipes", recipe, list(study.recipes))
    manifests = read_manifests(args.manifest, list(part.sets))
    cells = plan_cells(study, name, recipes, manifests, output)
    for left_out in sorted(set(part.sets) - {cell.set for cell in cells}):
        print(f"{left_out} is left out; it takes --manifest {left_out}=FILE.csv")
    budget = Budget(cells, args.hours)
    print(budget.describe(), flush=True)
    if args.plan:
        for recipe in recipes:
            print(f"  {recipe}: {budget.describe_recipe(recipe)}")
        return
    if args.score:
        sets = sorted({cell.set for cell in cells})
        seal(output, {"recipe": args.score, "adds": study.recipes[args.score], "sets": sets}, args.again)
    try:
        share_round(cells, budget, args.workers)
    finally:
        summarise(study, name, recipes, cells, output)
    if args.score and count_done(cells) == len(cells):
        complete_seal(output)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
