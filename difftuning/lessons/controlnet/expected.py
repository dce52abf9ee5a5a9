"""What was written down before the ControlNet study (data/results/expected_controlnet.md), and what came."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence

import numpy as np

from ...evaluation.agreement import sudden_convergence_step
from ...studies.control_gains import steps_saved
from ...studies.controlnet import HELD
from ..expectations import expectations_table
from .answers import PROMPT_MARGIN, TURNS, turn_of
from .runs import Runs

if TYPE_CHECKING:
    import pandas

OURS, ALONE = "Diff-Tuning", "reconsolidation only"
BLACK, NO_PROMPT = "Diff-Tuning, black conditions", "Diff-Tuning, null prompts"
AREAS, LINES = ["segmentation", "depth", "normal"], ["edge", "sketch"]
WITHIN = 0.1  # of the way from the base to real pictures; of a distance, too


class Prediction(NamedTuple):
    """Was it right, and what was found."""

    right: bool
    found: str


def expected(runs: Runs, information: pandas.DataFrame) -> pandas.DataFrame:
    """A row for each prediction, in the order of the file; `information` is the table of what each condition tells of the picture."""
    return expectations_table(
        {
            "agreement is flat for 60 to 120 steps, and then goes from a fifth to four fifths of the way within 150": _shape(runs),
            "on edge plain training gets half of the way in 200 to 300 steps, reconsolidation alone 10 to 30 % earlier": _edge(runs),
            "on edge the bank adds nothing: Diff-Tuning's step is within 10 % of that of reconsolidation alone": _bank(runs),
            "areas (segmentation, depth, normal) are obeyed earlier than lines (edge, sketch)": _areas_first(runs),
            "Diff-Tuning is earlier on at least four of five conditions, and by 10 to 25 % on average": _earlier(runs),
            "after the last step both methods obey alike, within a tenth of the way": _alike_at_the_end(runs),
            "Diff-Tuning's Frechet distance is within 10 % of plain training's": _pictures(runs),
            "prompts are followed at least as well as by the base": _prompts(runs),
            "the loss on new pictures falls most where t is large; near the data it stays within 5 % of the base's": _losses(runs),
            "black conditions for the bank: obeyed as early, and less at the end by under a tenth of the way": _black(runs),
            "null prompts for the bank make no difference": _no_prompt(runs),
            "lines tell least of the picture, depth and normal most, and none above nine tenths": _information(information),
        }
    )


def _shape(runs: Runs) -> Prediction:
    flat, rise = [], []
    for _, rows in runs.agreement[runs.agreement.method.isin(["plain", OURS])].groupby(["kind", "method"]):
        curve = rows.groupby("step").scaled.mean()
        flat.append(_reached(curve, WITHIN))
        rise.append(_reached(curve, 0.8) - _reached(curve, 0.2))
    there = np.isfinite(rise)
    right = all(60 <= steps <= 120 for steps in flat) and all(steps <= 150 for steps in rise)
    within = f", in {_span(np.array(rise)[there])} steps" if there.any() else ""
    return Prediction(
        right, f"flat for {_span(flat)} steps; {there.sum()} of {len(rise)} mean curves go from a fifth to four fifths{within}"
    )


def _edge(runs: Runs) -> Prediction:
    plain, saved = _mean_step(runs, "plain", ["edge"]), 100 * steps_saved(runs.scores, ALONE)["edge"].mean
    return Prediction(200 <= plain <= 300 and 10 <= saved <= 30, f"plain after {plain:.0f}; alone {_earlier_by(saved)}")


def _bank(runs: Runs) -> Prediction:
    saved = 100 * steps_saved(runs.scores, OURS, ALONE)["edge"].mean
    return Prediction(abs(saved) <= 10, f"{_earlier_by(saved)} than without the bank")


def _areas_first(runs: Runs) -> Prediction:
    areas, lines = (_mean_step(runs, "plain", kinds) for kinds in (AREAS, LINES))
    return Prediction(
        areas < lines, f"plain, half of the way: areas after {areas:.0f} steps, lines after {lines:.0f} (runs that get so far)"
    )


def _earlier(runs: Runs) -> Prediction:
    saved = steps_saved(runs.scores, OURS)
    mean, kinds = 100 * saved.pop("mean").mean, [kind for kind, one in saved.items() if one.seeds and turn_of(one) == TURNS[0]]
    return Prediction(len(kinds) >= 4 and 10 <= mean <= 25, f"on {len(kinds)} of {len(saved)} clearly; on average {_earlier_by(mean)}")


def _alike_at_the_end(runs: Runs) -> Prediction:
    apart = _last(runs, OURS) - _last(runs, "plain")
    return Prediction(
        apart.abs().max() <= WITHIN,
        f"Diff-Tuning's less plain's: {apart.min():+.2f} ({apart.idxmin()}) to {apart.max():+.2f} ({apart.idxmax()})",
    )


def _pictures(runs: Runs) -> Prediction:
    mean = runs.scores.groupby(["method", "kind"]).fid.mean()
    change = 100 * (mean[OURS] / mean["plain"] - 1)
    return Prediction(
        change.abs().max() <= 10, f"from {change.min():+.0f} % ({change.idxmin()}) to {change.max():+.0f} % ({change.idxmax()})"
    )


def _prompts(runs: Runs) -> Prediction:
    base = runs.floors[runs.floors.pictures.str.startswith("base")].caption_agreement.mean()
    found = runs.scores[runs.scores.method.isin(["plain", OURS])].groupby("method").caption_agreement.mean()
    words = ", ".join(f"{method} {share:.2f}" for method, share in found.items())
    return Prediction(bool(found.min() >= base - PROMPT_MARGIN), f"the words of the prompt that are followed: base {base:.2f}, {words}")


def _losses(runs: Runs) -> Prediction:
    new = runs.losses[(runs.losses.data == "target") & runs.losses.method.isin(["plain", OURS])]
    change = 100 * (np.exp(np.log(new.after / new.before).groupby([new.method, new.tenth]).mean()).unstack() - 1)
    lowest, first = change.mean().idxmin(), change[1]
    return Prediction(
        bool(lowest >= 8 and first.abs().max() <= 5),
        f"most in tenth {lowest} of 10 ({change.mean().min():+z.0f} %); in tenth 1 {', '.join(f'{method} {each:+z.0f} %' for method, each in first.items())}",
    )


def _black(runs: Runs) -> Prediction:
    saved = steps_saved(runs.scores, BLACK, OURS)["edge"]
    less = _last(runs, OURS)["edge"] - _last(runs, BLACK)["edge"]
    right = turn_of(saved) == TURNS[2] and 0 <= less <= WITHIN
    return Prediction(right, f"{_earlier_by(100 * saved.mean)} than own conditions; less at the end by {less:.2f}")


def _no_prompt(runs: Runs) -> Prediction:
    saved = steps_saved(runs.scores, NO_PROMPT, OURS)["edge"]
    seeds = "one seed" if saved.seeds == 1 else f"{saved.seeds} seeds"
    return Prediction(turn_of(saved) == TURNS[2], f"half of the way {_earlier_by(100 * saved.mean)} than with its own ({seeds})")


def _information(information: pandas.DataFrame) -> Prediction:
    share = information.groupby("condition").explained_by_condition.mean().sort_values()
    right = set(share.index[:2]) == set(LINES) and set(share.index[-2:]) == {"depth", "normal"} and share.max() <= 0.9
    return Prediction(right, ", ".join(f"{kind} {each:.2f}" for kind, each in share.items()))


def _reached(curve: pandas.Series, share: float) -> float:
    """The step from which a curve stays above a share for three checks; inf where it never does."""
    found = sudden_convergence_step(curve.index.tolist(), curve.tolist(), threshold=share, k=HELD)
    return np.inf if found is None else found


def _mean_step(runs: Runs, method: str, kinds: Sequence[str]) -> float:
    """The mean step of sudden convergence over conditions, of the runs that converge."""
    mine = runs.scores[(runs.scores.method == method) & runs.scores.kind.isin(kinds)]
    return float(mine.groupby("kind").sudden_convergence.mean().mean())


def _last(runs: Runs, method: str) -> pandas.Series:
    """Scaled agreement after the last step, mean over seeds, by condition."""
    rows = runs.agreement[(runs.agreement.method == method) & (runs.agreement.step == runs.agreement.step.max())]
    return rows.groupby("kind").scaled.mean()


def _earlier_by(saved: float) -> str:
    return f"{abs(saved):.0f} % {'earlier' if saved >= 0 else 'later'}"


def _span(steps: Sequence[float]) -> str:
    return f"{min(steps):.0f} to {max(steps):.0f}" if min(steps) < max(steps) else f"{min(steps):.0f}"
