"""Does the method's premise hold in the tiny world?  One command measures it, and never asks which method wins.

    python -m difftuning.studies.criterion          # goes on where it was stopped; prints ten ratios a run, then met or not

The premise: near the data the pre-trained model is as good on new pictures as tuning could make it, near pure noise tuning
has much to change.  So plain fine-tuning should hardly lower the held-out loss in the first tenths of the chain and lower it
more and more towards the last.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from ..config import DiffTuningConfig
from ..data.tasks import load_task
from ..models.loading import load_pretrained
from ..support.files import atomic_path
from ..support.world import data_folder, world_version
from ..training.fine_tune import fine_tune
from ..training.memory_bank import MemoryBank
from .cell import METHODS, losses_along_chain
from .grid import DEVELOPMENT
from .tables import kept_rows, write_rows

AT_MOST = (0.03, 0.05, 0.08)  # the fall of the held-out loss in tenths 1 to 3 under plain fine-tuning
AT_LEAST = 0.35  # its mean fall over tenths 7 to 10
RANK_CORRELATION = 0.95  # of the fall with the tenth
COMPARED = ("plain", "reconsolidation only", "Diff-Tuning")
PICTURES, HELD_OUT, EACH = 2000, 500, 8  # training and held-out pictures; timesteps in each tenth
STEPS = (800, 1600)


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


def measure(table: Path, runs: Path, *, learning_rate: float = 1e-3, seed: int = 0) -> None:
    """Fill `table` with the loss of each tenth before and after tuning; runs and marks that it holds are not repeated."""
    pretrained = load_pretrained("tiny")
    for task_name in DEVELOPMENT:
        task, reference = load_task(task_name), load_task(task_name, split="validation")
        task = task.subset(range(min(PICTURES, len(task))))
        for method in COMPARED:
            options = dict(METHODS[method])
            bank = MemoryBank.load(data_folder() / "bank") if options.pop("bank") else None
            for step in STEPS:
                rows = kept_rows(table)
                own = {"world": world_version(), "task": task_name, "method": method, "seed": str(seed), "step": str(step)}
                if any(own.items() <= row.items() for row in rows):
                    continue
                config = DiffTuningConfig(steps=step, learning_rate=learning_rate, seed=seed, keep_checkpoints=1, **options)
                tuned = fine_tune(pretrained, task, bank, config, folder=runs / f"{task_name}-{method.replace(' ', '-')}-{seed}")
                write_rows(table, rows + [own | row for row in losses_along_chain(pretrained, tuned, reference, HELD_OUT, each=EACH)])


def report(table: Path) -> str:
    """The ratios as text, target and source, and the verdict on each run of plain fine-tuning."""
    import pandas

    kept = kept_rows(table)
    if not kept:
        raise FileNotFoundError(f"{table} has no rows of world {world_version()}: measure them first")
    rows = pandas.DataFrame(kept).astype({"before": float, "after": float, "tenth": int, "step": int})
    lines, verdicts = [f"World {world_version()}: held-out loss after / before, by tenth of the chain (data end first)"], []
    for (data, task, step, method), found in rows.groupby(["data", "task", "step", "method"], sort=False):
        ratios = (found.after / found.before).to_numpy()[found.tenth.argsort()]
        line = f"{data:6} {task:9} {step:5} steps  {method:21}" + " ".join(f"{ratio:5.2f}" for ratio in ratios)
        if data == "target" and method == "plain":
            verdicts.append(judge(ratios))
            line += f"   {verdicts[-1]}"
        lines.append(line)
    met = bool(verdicts) and all(verdict.met for verdict in verdicts)
    return "\n".join([*lines, f"The criterion is {'met' if met else 'not met'}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=None, help="CSV to fill (default: results/criterion.csv of the tiny world)")
    parser.add_argument("--runs", type=Path, default=Path("runs/criterion"), help="folder of the training runs")
    options = parser.parse_args()
    table = options.table or data_folder() / "results" / "criterion.csv"
    measure(table, options.runs)
    text = report(table)
    with atomic_path(table.with_suffix(".md")) as scratch:
        scratch.write_text(f"```\n{text}\n```\n", encoding="utf-8", newline="\n")
    print(text)


if __name__ == "__main__":
    main()
