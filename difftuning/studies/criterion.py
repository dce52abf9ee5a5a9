"""Does the method's premise hold in the tiny world?  One command says, and never asks which method wins.

    python -m difftuning.studies.criterion     # ten ratios a run, then met or not; measures what the pilot's table lacks

The premise: near the data the pre-trained model is as good on new pictures as tuning could make it, near pure noise tuning
has much to change.  So plain fine-tuning should hardly lower the held-out loss in the first tenths of the chain and lower it
more and more towards the last.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from ..config import StudyCell
from ..support.files import atomic_path
from ..support.world import data_folder, world_version
from .grid import run_study, studies
from .tables import kept_rows, with_suffix

if TYPE_CHECKING:
    import pandas

AT_MOST = (0.03, 0.05, 0.08)  # the fall of the held-out loss in tenths 1 to 3 under plain fine-tuning
AT_LEAST = 0.35  # its mean fall over tenths 7 to 10
RANK_CORRELATION = 0.95  # of the fall with the tenth
COMPARED = ("plain", "reconsolidation only", "Diff-Tuning")
PICTURES, STEPS = 2000, (800, 1600)


@dataclass(frozen=True)
class Verdict:
    """Which parts of the criterion a row of ten ratios (after / before) meets."""

    data_end: bool
    noise_end: bool
    growing: bool

    @property
    def met(self) -> bool:
        return self.data_end and self.noise_end and self.growing

    def __str__(self) -> str:
        parts = {"data end": self.data_end, "noise end": self.noise_end, "growing": self.growing}
        return "met" if self.met else "not met: " + ", ".join(name for name, holds in parts.items() if not holds)


def judge(ratios: Sequence[float]) -> Verdict:
    """The criterion on one row of ten loss ratios after / before, from the data end to the noise end."""
    from scipy.stats import spearmanr

    falls = [1 - ratio for ratio in ratios]
    return Verdict(
        data_end=all(fall <= most for fall, most in zip(falls, AT_MOST)),
        noise_end=sum(falls[6:]) / 4 >= AT_LEAST,
        growing=float(spearmanr(range(10), falls).statistic) >= RANK_CORRELATION,
    )


def criterion_cells() -> list[StudyCell]:
    """Those runs of the pilot that the criterion reads: both development tasks, 2,000 training pictures, one seed."""
    pilot = [cell for cell in studies()["pilot"] if cell.seed == 0 and cell.training_pictures == PICTURES]
    return [cell for method in COMPARED for cell in pilot if cell.method == method]


def criterion_ratios(losses: pandas.DataFrame) -> pandas.DataFrame:
    """Held-out loss after / before of the criterion's runs in a table of losses: a row for each run and step, a column for each tenth."""
    wanted = (losses.seed == 0) & (losses.training_pictures == PICTURES) & losses.step.isin(STEPS) & losses.method.isin(COMPARED)
    rows = losses[wanted & losses.data.isin(["validation", "source"])]
    rows = rows.assign(ratio=rows.after / rows.before)
    return rows.pivot_table(index=["data", "task", "step", "method"], columns="tenth", values="ratio", sort=False)


def report(losses: Path) -> str:
    """The ratios as text, target and source, and the verdict on each run of plain fine-tuning."""
    import pandas

    kept = kept_rows(losses)
    if not kept:
        raise FileNotFoundError(f"{losses} has no rows of world {world_version()}: measure them first")
    table = pandas.DataFrame(kept).astype(dict.fromkeys(("before", "after"), float) | dict.fromkeys(("tenth", "step", "seed"), int))
    table = table[table.training_pictures != "all"].astype({"training_pictures": int})
    lines, verdicts = [f"World {world_version()}: held-out loss after / before, by tenth of the chain (data end first)"], []
    for (data, task, step, method), row in criterion_ratios(table).iterrows():
        line = f"{data:10} {task:9} {step:5} steps  {method:21}" + " ".join(f"{ratio:5.2f}" for ratio in row)
        if data == "validation" and method == "plain":
            verdicts.append(judge(row.to_list()))
            line += f"   {verdicts[-1]}"
        lines.append(line)
    met = bool(verdicts) and all(verdict.met for verdict in verdicts)
    return "\n".join([*lines, f"The criterion is {'met' if met else 'not met'}."])


def main() -> None:
    """Measure what the table lacks, then print and write down the ratios and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=None, help="the pilot's table (default: results/pilot.csv of the tiny world)")
    parser.add_argument("--runs", type=Path, default=Path("runs/studies/pilot"), help="folder of the training runs")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    table = options.table or data_folder() / "results" / "pilot.csv"
    run_study(criterion_cells(), folder=options.runs, results=table, processes=options.processes)
    text = report(with_suffix(table, "_losses"))
    with atomic_path(table.with_name("criterion.md")) as scratch:
        scratch.write_text(f"```\n{text}\n```\n", encoding="utf-8", newline="\n")
    print(text)


if __name__ == "__main__":
    main()
