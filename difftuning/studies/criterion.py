"""Does the method's premise hold in the tiny world?  One command says, and never asks which method wins (premise.py).

python -m difftuning.studies.criterion             # ten ratios a run, then met or not; measures what the pilot's table lacks
python -m difftuning.studies.criterion --measured  # trains nothing: writes criterion.md from what the table has, and says what it lacks
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Sequence

from ..config import StudyCell
from ..support.files import write_text
from ..support.world import data_folder, world_version
from .grid import studies
from .premise import COMPARED, DEVELOPMENT, PICTURES, STEPS, criterion_ratios, judge, measured_ratios, unmet
from .runner import run_study
from .tables import with_suffix

__all__ = ["criterion_cells", "criterion_ratios", "judge", "report"]


def criterion_cells() -> list[StudyCell]:
    """Those runs of the pilot that the criterion reads: both development tasks, 2,000 training pictures, one seed."""
    pilot = [cell for cell in studies()["pilot"] if cell.seed == 0 and cell.training_pictures == PICTURES]
    return [cell for method in COMPARED for cell in pilot if cell.method == method]


def report(losses: Path) -> str:
    """The ratios as text, target and source, and the verdict on each run of plain fine-tuning."""
    ratios = measured_ratios(losses)
    lines = [f"World {world_version()}: held-out loss after / before, by tenth of the chain (data end first)"]
    for (data, task, step, method), row in ratios.iterrows():
        line = f"{data:10} {task:9} {step:5} steps  {method:21}" + " ".join(f"{ratio:5.2f}" for ratio in row)
        lines.append(f"{line}   {judge(row.to_list())}" if data == "validation" and method == "plain" else line)
    return "\n".join([*lines, f"The criterion is {'not met' if unmet(ratios) else 'met'}."])


def lacking(losses: Path) -> list[str]:
    """The rows of `report` that are not measured yet."""
    found = measured_ratios(losses).index
    rows = itertools.product(("validation", "source"), DEVELOPMENT, STEPS, COMPARED)
    return [f"{data} {task} {step} steps {method}" for data, task, step, method in rows if (data, task, step, method) not in found]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the table lacks, then print and write down the ratios and the verdict; or print what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=None, help="the pilot's table (default: results/pilot.csv of the tiny world)")
    parser.add_argument("--runs", type=Path, default=Path("runs/studies/pilot"), help="folder of the training runs")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--measured", action="store_true", help="train and write nothing: print what is there, and name what is missing")
    options = parser.parse_args(arguments)
    table = options.table or data_folder() / "results" / "pilot.csv"
    losses = with_suffix(table, "_losses")
    if not options.measured:
        run_study(criterion_cells(), folder=options.runs, results=table, processes=options.processes)
    try:
        text = report(losses)
    except FileNotFoundError as error:
        parser.error(str(error))
    write_text(table.with_name("criterion.md"), f"```\n{text}\n```\n")
    print("\n".join([text, *(f"missing: {row}" for row in lacking(losses))]))


if __name__ == "__main__":
    main()
