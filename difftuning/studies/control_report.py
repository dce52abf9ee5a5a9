"""The ControlNet study as text: who obeys earlier on which condition, at what price, and how its settings were chosen.

python -m difftuning.studies.control_report     # writes controlnet.md in data/results, from the tables beside it
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.conditions import KINDS
from ..support.files import write_text
from ..support.world import data_folder
from .control_cells import MAIN, ControlCell
from .control_gains import STEEPEST, distance_lower, steps_by, steps_saved
from .gains import Estimate, read_table
from .report import markdown

if TYPE_CHECKING:
    import pandas

PLAIN, OURS = MAIN
SETTINGS = {"learning_rate": "rate", "batch_size": "batch", "training_pictures": "pictures"}
KEPT_FROM = 0.02  # a change of settings is kept if it lowers the mean loss by more
NEVER = "never"


def convergence_table(scores: pandas.DataFrame, agreement: pandas.DataFrame) -> list[str]:
    """Markdown, a row for each condition and one for their mean: steps, and the share of them that Diff-Tuning saves by two definitions.

    `scores`, `agreement`: the study's tables; runs without scores are not done, and do not count.
    """
    done = agreement.merge(scores[["kind", "method", "seed"]], on=["kind", "method", "seed"])
    half, steepest = steps_saved(scores, OURS), steps_saved(steps_by(STEEPEST, done), OURS)
    rows = []
    for kind in KINDS:
        mine = scores[scores.kind == kind]
        seeds = len(set.intersection(*(set(mine[mine.method == method].seed) for method in MAIN)))
        steps = (_steps(mine[mine.method == method].sudden_convergence) for method in MAIN)
        rows.append([kind, str(seeds), *steps, _told(half[kind]), _told(steepest[kind])])
    rows.append(["mean", "", "", "", _told(half["mean"]), _told(steepest["mean"])])
    return markdown(["condition", "seeds", "half of the way: plain", "Diff-Tuning", "steps saved", f"by {STEEPEST}"], rows)


def costs_table(scores: pandas.DataFrame, agreement: pandas.DataFrame) -> list[str]:
    """Markdown, rows as in `convergence_table`: what the pictures are worth after the last step."""
    lower = distance_lower(scores)
    done = agreement.merge(scores[["kind", "method", "seed", "caption_agreement"]], on=["kind", "method", "seed"])
    last = done[done.step == done.step.max()].groupby(["method", "kind"])[["scaled", "caption_agreement"]].mean()
    rows = []
    for kind in KINDS:
        pairs = (f"{last[column][PLAIN, kind]:.2f}, {last[column][OURS, kind]:.2f}" for column in last)
        rows.append([kind, _told(lower[kind]), *pairs])
    means = (f"{last[column][PLAIN].mean():.2f}, {last[column][OURS].mean():.2f}" for column in last)
    rows.append(["mean", _told(lower["mean"]), *means])
    return markdown(["condition", "Frechet distance lower by", "obeyed (plain, Diff-Tuning)", "words followed (plain, Diff-Tuning)"], rows)


def _steps(found: pandas.Series) -> str:
    """The mean step of the runs that get there, and how many do not."""
    never = int(found.isna().sum())
    if never == len(found):
        return NEVER
    return f"{found.mean():.0f}" + (f" ({never} of {len(found)} {NEVER})" if never else "")


def _told(found: Estimate) -> str:
    """The mean and over how many pairs."""
    if not found.seeds:
        return "–"
    return f"{found.percent}, {'one pair' if found.seeds == 1 else f'{found.seeds} pairs'}"


def settings_table(losses: pandas.DataFrame, scores: pandas.DataFrame) -> list[str]:
    """Markdown, a row for each change of settings that was tried: by how much it lowers the loss on held-out target pictures, both methods' mean.

    The rule asks for the mean over the chain; beside it stands the geometric mean, which weighs all noise levels alike.
    """
    usual, rows = ControlCell("edge", PLAIN, 0), []
    target = losses[losses.data == "target"]
    for column, name in SETTINGS.items():
        for value in sorted(set(target[column]) - {getattr(usual, column)}):
            found = [lower_by(_with(target, **{column: value}), _with(target), geometric) for geometric in (False, True)]
            steps = [_steps(_with(scores, **{column: value}).query("method == @method").sudden_convergence) for method in MAIN]
            rows.append([f"{name} {value:g}", *(f"{100 * share:z.1f} %" for share in found), *steps])
    usual_steps = [_steps(_with(scores).query("method == @method").sudden_convergence) for method in MAIN]
    rows.append([", ".join(f"{name} {getattr(usual, column):g}" for column, name in SETTINGS.items()), "", "", *usual_steps])
    return markdown(["settings", "loss lower by", "by the geometric mean", "half of the way: plain", "Diff-Tuning"], rows)


def lower_by(changed: pandas.DataFrame, usual: pandas.DataFrame, geometric: bool) -> float:
    """By which share the mean loss over tenths and methods is lower after a change; rows of losses of one data set and one setting each."""
    means = [np.exp(np.log(rows.after).mean()) if geometric else rows.after.mean() for rows in (changed, usual)]
    return float(1 - means[0] / means[1])


def _with(table: pandas.DataFrame, **changed: float) -> pandas.DataFrame:
    """The rows of the usual settings but for those that are changed."""
    usual = ControlCell("edge", PLAIN, 0)
    for column in SETTINGS:
        table = table[table[column] == changed.get(column, getattr(usual, column))]
    return table


def control_report(folder: Path) -> str:
    """The text of the report, from the tables in `folder`."""
    scores, agreement = read_table("controlnet", folder), read_table("controlnet_agreement", folder)
    rates, losses = read_table("controlnet_rates", folder), read_table("controlnet_rates_losses", folder)
    floors = read_table("controlnet_floors", folder)
    base, real = (floors[floors.pictures.str.startswith(name)] for name in ("base", "real"))
    lines = [
        "# The ControlNet study in numbers", "",
        f"World {scores.world.iloc[0]}; {scores.training_pictures.iloc[0]:,} shoes, {scores.step.max()} steps. \"Half of the way\" is the step of sudden convergence: the first from which agreement with the",
        "condition is above half of the way from the base to real pictures, for three checks in a row; means of the runs that get there. \"Steps saved\" is 1 - Diff-Tuning's step / plain's,",
        "seed by seed, where both get there; the mean over conditions takes the seeds in which all do. Intervals are 95 %, from three pairs on.",
        "What we expected before any run stands in [expected_controlnet.md](expected_controlnet.md). Written by `python -m difftuning.studies.control_report`.", "",
        *convergence_table(scores, agreement), "",
        "What the pictures are worth after the last step:", "",
        *costs_table(scores, agreement), "",
        f"Obeyed: agreement with the condition, 0 for the base and 1 for real pictures. Words followed: the share of a prompt's words that the picture agrees with; the base {base.caption_agreement.mean():.2f},",
        f"real pictures {real.caption_agreement.mean():.2f}. Frechet distance of the base without condition {base.fid.mean():.1f}, of real pictures through the autoencoder {real.fid.mean():.1f}.", "",
        "## How the settings were chosen", "",
        f"One change at a time, on edge and the validation split, one seed. The rule: a change is kept if it lowers the mean loss on held-out shoes, over the chain and both methods, by more than {100 * KEPT_FROM:.0f} %.", "",
        *settings_table(losses, rates),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    results = data_folder() / "results"
    write_text(results / "controlnet.md", control_report(results))
