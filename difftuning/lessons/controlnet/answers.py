"""What the ControlNet study's runs answer, in words that follow the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator

import numpy as np

from ...data.conditions import KINDS
from ...studies.control_gains import DEFINITIONS, distance_lower, steps_by, steps_saved
from ...studies.gains import Estimate, estimate
from ..numerals import listed
from ..parts import BETTER, SAME, WORSE, in_a_word
from .runs import Runs

if TYPE_CHECKING:
    import pandas

PAPER = 0.24  # of the steps saved, the paper's mean over its five conditions
WINDOW = 3  # checks: so many is the stretch whose rise is told
SUDDEN = 2  # times what an even rise would gain in a window: so much more than in a slower one before it
TURNS = ("earlier", "later", "no clear difference")
MARGIN = 0.05  # less is no difference: of the steps, of a distance, and of a loss
PROMPT_MARGIN, OBEYS_MARGIN = 0.02, 0.05  # of the attributes asked for; of the way from the base to real pictures


def rise_in_words(runs: Runs, method: str = "plain") -> str:
    """Is there an onset?  Of the means over seeds, what agreement gains at first, in its steepest stretch after that, and what an even rise would gain."""
    gains = []
    for _, rows in runs.agreement[runs.agreement.method == method].groupby("kind"):
        curve = rows.groupby("step").scaled.mean()
        rises = (curve.shift(-WINDOW) - curve).dropna().to_numpy()
        faster = rises[WINDOW:] - np.minimum.accumulate(rises)[:-WINDOW]
        gains.append((rises[0], rises[WINDOW:].max(), faster.max(), (curve.iloc[-1] - curve.iloc[0]) * WINDOW / (len(curve) - 1)))
    first, steepest, faster, even = np.mean(gains, axis=0)
    steps = int(curve.index[WINDOW] - curve.index[0])
    onset = faster >= SUDDEN * even
    verdict = (
        "So there is an onset: little at first, then a steeper rise."
        if onset
        else "So there is no onset: the pictures come to obey little by little."
    )
    return (
        f"On average over the conditions agreement gains {first:.2f} in the first {steps} steps, and {steepest:.2f} in the steepest {steps} later on; "
        f"an even rise would gain {even:.2f}. {verdict}"
    )


def turn_in_words(runs: Runs) -> str:
    """Which of `TURNS` is said of Diff-Tuning's sudden convergence beside plain training's: the mean over the conditions, beyond its interval."""
    return turn_of(steps_saved(runs.scores, "Diff-Tuning")["mean"])


def answer_in_words(runs: Runs) -> str:
    """The lesson's answer in Markdown: one bold sentence; then the number with its interval beside the paper's, and the conditions one by one."""
    saved = steps_saved(runs.scores, "Diff-Tuning")
    mean, over = saved["mean"], _over(saved)
    bold = {
        TURNS[0]: f"Yes: with Diff-Tuning the pictures snap to their conditions after {100 * abs(mean.mean):.0f} % fewer steps, on average over {over}",
        TURNS[1]: f"No: with Diff-Tuning the pictures snap to their conditions only after {100 * abs(mean.mean):.0f} % more steps, on average over {over}",
        TURNS[2]: f"These runs cannot tell: averaged over {over}, the steps of the two methods do not differ clearly",
    }[turn_of(mean)]  # fmt: skip
    if not mean.seeds:
        bold = "These runs cannot tell: with every seed some run never begins to obey"
    groups = {turn: [kind for kind in KINDS if kind in saved and saved[kind].seeds and turn_of(saved[kind]) == turn] for turn in TURNS}
    each = "; ".join(
        f"{turn} {'for' if turn == TURNS[2] else 'on'} {', '.join(f'{kind} ({saved[kind].seeds})' for kind in kinds)}"
        for turn, kinds in groups.items()
        if kinds
    )
    return (
        f"**{bold}.** Steps saved: {mean.percent} ({_seeds(mean)}{_complete(runs.scores, mean)}). The paper reports {100 * PAPER:.0f} %, for Stable Diffusion.\n\n"
        f"By condition, with the number of pairs of runs: {each or 'nothing can be said'}.{_left_out(runs.scores)} {_other_measures(runs)}"
    )


def _left_out(scores: pandas.DataFrame) -> str:
    """Which runs of the two methods never converge, and that they decide nothing."""
    never = scores[scores.method.isin(["plain", "Diff-Tuning"]) & scores.sudden_convergence.isna()]
    runs = [f"{method} on {kind} (seed {seed})" for method, kind, seed in zip(never.method, never.kind, never.seed)]
    if not runs:
        return ""
    last = int(scores.step.max())
    counted = steps_saved(scores.assign(sudden_convergence=scores.sudden_convergence.fillna(last)), "Diff-Tuning")["mean"]
    return f" Never half of the way, and left out with the other method's run: {', '.join(runs)}. Counted as step {last}, the mean would be {counted.percent} ({_seeds(counted)})."


def _complete(scores: pandas.DataFrame, mean: Estimate) -> str:
    """That the mean has fewer seeds than were run, where it has."""
    run = scores[scores.method == "Diff-Tuning"].groupby("kind").seed.nunique().min()
    return f", the one{'s' * (mean.seeds > 1)} in which all runs get that far" if 0 < mean.seeds < run else ""


def saved_by_other_measures(runs: Runs, method: str = "Diff-Tuning") -> dict[str, Estimate]:
    """The mean share of steps saved by each of the other definitions of the step."""
    return {name: steps_saved(steps_by(name, runs.agreement), method)["mean"] for name in DEFINITIONS}


def parts_in_words(runs: Runs) -> str:
    """Markdown: how many steps reconsolidation alone saves over all conditions, and each option on edge."""
    methods = [method for method in runs.scores.method.unique() if method != "plain"]
    lines = [f"- *{method}*: {_shares(steps_saved(runs.scores, method))}" for method in methods]
    return "Steps saved beside plain training:\n\n" + "\n".join(lines) + f"\n\n{_bank_in_words(runs)}"


def _bank_in_words(runs: Runs) -> str:
    """What the bank adds to reconsolidation: Diff-Tuning's step compared with that of reconsolidation alone, seed by seed."""
    if not {"Diff-Tuning", "reconsolidation only"} <= set(runs.scores.method):
        return "What the bank adds, these runs cannot tell."
    added = steps_saved(runs.scores, "Diff-Tuning", "reconsolidation only")
    mean, edge = added["mean"], added["edge"]
    verdict = {
        TURNS[0]: "On average the bank moves the step forward",
        TURNS[1]: "On average the bank moves the step back",
        TURNS[2]: "On average the bank does not clearly move the step",
    }[turn_of(mean)]
    return f"{verdict}: compared with reconsolidation alone, Diff-Tuning saves {mean.percent} over the conditions and {edge.percent} on edge ({_seeds(edge)})."


def costs_in_words(runs: Runs) -> str:
    """Markdown: a line each for picture quality, prompts, obedience at the end and both held-out losses, Diff-Tuning beside plain training."""
    last = runs.agreement[runs.agreement.step == runs.agreement.step.max()]
    ratios = runs.losses.assign(log=np.log(runs.losses.before / runs.losses.after))
    losses = ratios.groupby(["kind", "method", "seed", "data"], as_index=False).log.mean()  # over the chain, as the figure shows it
    new, old = (losses[losses.data == data] for data in ("target", "source"))
    found = {
        "pictures (Frechet distance)": (runs.scores.assign(log=-np.log(runs.scores.fid)), "log", MARGIN),
        "prompts followed": (runs.scores, "caption_agreement", PROMPT_MARGIN),
        "conditions obeyed after the last step": (last, "scaled", OBEYS_MARGIN),
        "loss on held-out new pictures": (new, "log", MARGIN),
        "loss on held-out old pictures": (old, "log", MARGIN),
    }
    lines = [f"- {what}: *{_beside_plain(in_a_word(_gains(table, column), margin))}*" for what, (table, column, margin) in found.items()]
    lower = distance_lower(runs.scores)["mean"]
    meant = " (a minus: higher)" if lower.mean < 0 else ""
    lines += ["", f"On average over the conditions the Frechet distance is lower than plain's by {lower.percent}{meant}."]
    return "\n".join(lines)


def _beside_plain(word: str) -> str:
    """A word of `in_a_word` over the conditions, as a phrase."""
    mixed = {
        "partly better": "better than plain on some conditions, the same on the others",
        "partly worse": "worse than plain on some conditions, the same on the others",
        "mixed": "better than plain on some conditions, worse on others",
        SAME: "about the same as plain",
    }
    return mixed.get(word, f"{word} than plain")


def _gains(table: pandas.DataFrame, column: str) -> Iterator[Estimate]:
    """Diff-Tuning's number less plain's, seed by seed: an estimate for each condition."""
    found = table.pivot_table(index="seed", columns=["method", "kind"], values=column)
    for kind in found["plain"]:
        yield estimate((found["Diff-Tuning"][kind] - found["plain"][kind]).dropna().to_numpy())


def turn_of(saved: Estimate) -> str:
    """Which of `TURNS` a share of steps saved is."""
    return {BETTER: TURNS[0], WORSE: TURNS[1]}.get(in_a_word([saved], MARGIN), TURNS[2])


def _shares(saved: dict[str, Estimate]) -> str:
    mean, edge = saved["mean"], saved["edge"]
    on_edge = f"{edge.percent} on edge ({_seeds(edge)})"
    return on_edge if _over(saved) in ("edge", "none") else f"{mean.percent} over {_over(saved)}, {on_edge}"


def _over(saved: dict[str, Estimate]) -> str:
    """Which conditions the mean is over: those on which both methods converge."""
    pairs = [kind for kind in KINDS if kind in saved and saved[kind].seeds]
    return "five conditions" if len(pairs) == len(KINDS) else listed(pairs)


def _other_measures(runs: Runs) -> str:
    """What other definitions of the step say, and whether the answer depends on the definition."""
    others = {name: share for name, share in saved_by_other_measures(runs).items() if share.seeds}
    told = f"Other definitions of the step give: {', '.join(f'{name} {share.percent}' for name, share in others.items())}."
    hangs = {turn_of(share) for share in others.values()} != {turn_in_words(runs)}
    return f"{told} *So the answer depends on the definition of the step.*" if hangs else told


def _seeds(found: Estimate) -> str:
    return f"{found.seeds} seeds" if found.seeds != 1 else "one seed"
