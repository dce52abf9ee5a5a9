"""Result tables as text: mean scores, and paired gains over plain fine-tuning with intervals.

    python -m difftuning.report     # writes data/results/pilot.md from pilot.csv and its siblings

Runs of one seed share pictures, noise and starting weights, so methods are compared seed by
seed: the gain of a seed is (plain - ours) / plain, and its mean over seeds has a 95 % interval.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .files import atomic_path, data_folder

if TYPE_CHECKING:
    import pandas

BASELINE = "plain"


class Estimate(NamedTuple):
    """Mean over seeds and half-width of its 95 % interval (Student's t); nan for one seed."""

    mean: float
    half_width: float
    seeds: int

    def text(self, digits: int = 2, unit: str = "") -> str:
        spread = f" ± {self.half_width:.{digits}f}" if self.seeds > 1 else ""
        return f"{self.mean:.{digits}f}{spread}{unit}"


def estimate(values: np.ndarray) -> Estimate:
    from scipy.stats import t

    n = len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Estimate(float(np.mean(values)), half, n)


def read_table(path: Path) -> pandas.DataFrame:
    """A result table with its columns' types: guidance and world are names."""
    import pandas

    return pandas.read_csv(path, dtype={"guidance": str, "world": str, "code": str})


def by_seed(table: pandas.DataFrame, method: str, score: str = "fid") -> pandas.DataFrame:
    """One method's scores: a row for each seed, a column for each (guidance, step)."""
    return table[table.method == method].pivot_table(index="seed", columns=["guidance", "step"], values=score)


def paired_gain(table: pandas.DataFrame, method: str, guidance: str, step: int) -> Estimate:
    """Gain over plain fine-tuning at the same guidance and step, of one task's rows."""
    ours, plain = (by_seed(table, name)[guidance, step] for name in (method, BASELINE))
    return estimate(((plain - ours) / plain).dropna().to_numpy())


def best_setting(table: pandas.DataFrame, method: str) -> tuple[str, int]:
    """The (guidance, step) of a method's lowest mean score, of one task's rows."""
    guidance, step = by_seed(table, method).mean().idxmin()
    return guidance, int(step)


def gain_at_own_best(table: pandas.DataFrame, method: str) -> Estimate:
    """Gain over plain fine-tuning, each at the guidance and step that suit it best on the mean over seeds."""
    ours, plain = (by_seed(table, name)[best_setting(table, name)] for name in (method, BASELINE))
    return estimate(((plain - ours) / plain).dropna().to_numpy())


def score_table(table: pandas.DataFrame, guidance: str) -> list[str]:
    """Markdown: scores of every method by step, mean and interval over seeds."""
    steps = sorted(table.step.unique())
    lines = ["| method | " + " | ".join(f"{step} steps" for step in steps) + " |", "|---|" + "---|" * len(steps)]
    for method in table.method.unique():
        scores = by_seed(table, method)
        cells = [estimate(scores[guidance, step].dropna().to_numpy()).text() for step in steps]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def gain_table(table: pandas.DataFrame) -> list[str]:
    """Markdown: gains over plain fine-tuning at every guidance and step, and each method at its own best."""
    steps = sorted(table.step.unique())
    lines = ["| method | guidance | " + " | ".join(f"{step} steps" for step in steps) + " | each at its own best |"]
    lines.append("|---|---|" + "---|" * (len(steps) + 1))
    for method in (name for name in table.method.unique() if name != BASELINE):
        own, (best_guidance, best_step) = gain_at_own_best(table, method), best_setting(table, method)
        for guidance in table.guidance.unique():
            cells = [_percent(paired_gain(table, method, guidance, step)) for step in steps]
            best = f"{_percent(own)} (guidance {best_guidance}, {best_step} steps)" if guidance == best_guidance else ""
            lines.append(f"| {method} | {guidance} | " + " | ".join(cells) + f" | {best} |")
    return lines


def _percent(gain: Estimate) -> str:
    return Estimate(100 * gain.mean, 100 * gain.half_width, gain.seeds).text(0, " %")


def pilot_report(folder: Path) -> str:
    """The text of pilot.md, from the tables in `folder`."""
    table = read_table(folder / "pilot.csv")
    world, seeds = table.world.iloc[0], table.groupby("method").seed.nunique()
    lines = [
        "# The pilot in numbers", "",
        f"World {world}; validation splits; {min(seeds)} to {max(seeds)} seeds a method. Frechet distance in our feature space, lower is better;",
        "mean over seeds and 95 % interval. Gains are (plain - ours) / plain, seed by seed. Written by `python -m difftuning.report`.", "",
    ]  # fmt: skip
    for task, rows in table.groupby("task", sort=False):
        plain = best_setting(rows, BASELINE)
        lines += [f"## {task}", "", f"Plain fine-tuning is best at guidance {plain[0]} after {plain[1]} steps.", ""]
        for guidance in rows.guidance.unique():
            lines += [f"Score at guidance {guidance}:", "", *score_table(rows, guidance), ""]
        lines += ["Gain over plain fine-tuning:", "", *gain_table(rows), ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    results = data_folder() / "results"
    with atomic_path(results / "pilot.md") as scratch:
        scratch.write_text(pilot_report(results), encoding="utf-8")
