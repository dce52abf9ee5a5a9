"""What the runs of lesson 04 answer, in words that follow the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..ideal.transfer import CLASSES
from ..knobs import knob_in_words, knob_table
from ..parts import (
    ALIKE,
    BETTER,
    GUIDANCES,
    MIXED,
    SAME,
    TENTHS,
    WORSE,
    in_a_word,
    mean_saved,
    new_samples,
    old_pictures,
    ratio,
    rise_avoided,
    score,
)
from ..parts_words import (
    MEANT,
    OLD,
    kept_in_words,
    longest_run,
    samples_at_large,
    samples_in_words,
    stretch_in_words,
    tenths_in_words,
)

if TYPE_CHECKING:
    from ..parts import Parts

COMPARED = (BETTER, SAME, WORSE)
RISE, FLAT, OURS, SWAPPED = "reconsolidation only", "retention only", "Diff-Tuning", "weightings swapped"
CURVES = {RISE: "rising, no bank", FLAT: "flat, bank falling", OURS: "rising, bank falling", SWAPPED: "falling, bank rising"}
RISING, BANKED = (RISE, OURS), (FLAT, OURS, SWAPPED)
HEAVY, LIGHT = "Diff-Tuning, weight 1", OURS
EARLY = (1, 2, 3)  # tenths of the chain
CLOSE, CLEAR = 0.02, 0.05  # two losses nearer than this are called alike; farther apart than this, clearly different


def swapped_in_words(parts: Parts) -> str:
    """Are the samples of the swapped curves better or worse than plain fine-tuning's?  The mean over sets and ways of guidance."""
    return _on_average(parts, SWAPPED, "plain")


def heavier_in_words(parts: Parts) -> str:
    """The same of bank weight 1 against 0.1."""
    return _on_average(parts, HEAVY, LIGHT)


def losses_in_words(parts: Parts) -> str:
    """What to see in the losses of plain fine-tuning and `CURVES`: who learns the noise end, and where a bank protects."""
    old = [{name: [ratio(parts, task, "source", name, [n]) for n in TENTHS] for name in ("plain", *CURVES)} for task in parts.tasks]
    below = longest_run(
        [all(max(one[name][n] for name in BANKED) < min(line[n] for name, line in one.items() if name not in BANKED) for one in old)
         for n in range(len(TENTHS))]
    )  # fmt: skip
    right = (
        f"the three methods with a bank lie below the two without {stretch_in_words(below)}"
        if below
        else "the lines with a bank and without cross"
    )
    return f"*Left, new pictures: {_noise_end(parts)}. Right, old pictures: {right}.*"


def behind_the_losses(parts: Parts) -> str:
    """Markdown: where all lose on new pictures, a falling bank against a rising one, and the last tenth."""
    found = (_above_one(parts), falling_or_rising(parts), noise_end_kept(parts))
    return "\n\n".join(words for words in found if words)


def falling_or_rising(parts: Parts) -> str:
    """Markdown, a table: where on the chain Diff-Tuning, whose bank falls, keeps clearly more of the old than the swapped method, and where less."""
    apart = [[_swapped_over_ours(parts, task, n) for n in TENTHS] for task in parts.tasks]
    lines = [
        f"| of the two, the loss on old pictures is clearly lower with | {' | '.join(parts.tasks)} |",
        "|---" * (1 + len(parts.tasks)) + "|",
    ]
    for name, sign in (("the falling bank (Diff-Tuning)", 1), ("the rising bank (weightings swapped)", -1)):
        where = (tenths_in_words([n for n, log in zip(TENTHS, logs) if sign * log > CLEAR]) for logs in apart)
        lines.append(f"| {name} | {' | '.join(f'in {words}' for words in where)} |")
    return "\n".join(lines)


def noise_end_kept(parts: Parts) -> str:
    """How few bank pictures Diff-Tuning trains in the last tenth, and whether the swapped method, which trains many there, loses less."""
    less = [_swapped_over_ours(parts, task, TENTHS[-1]) < -CLOSE for task in parts.tasks]
    found = "loses less there" if all(less) else "loses less there on one of the sets alone" if any(less) else "does not lose less there"
    return (
        "In the last tenth Diff-Tuning trains one bank picture in a hundred; the swapped method trains nearly one in five of its bank pictures there, "
        f"and {found}. The two differ in the curve of the new pictures, too, so what the shape of the bank's curve does stays open."
    )


def heavier_along_the_chain(parts: Parts) -> str:
    """In bold what bank weight 1 does, against 0.1; where along the chain it moves the loss on new pictures."""
    losses = [[[ratio(parts, task, "target", name, [n]) for name in (HEAVY, LIGHT)] for n in TENTHS] for task in parts.tasks]
    lower, higher = (
        longest_run([all(sign * np.log(one[n][0] / one[n][1]) > CLOSE for one in losses) for n in range(len(TENTHS))]) for sign in (-1, 1)
    )
    found = [f"{word} {stretch_in_words(where)}" for word, where in (("lower", lower), ("higher", higher)) if where]
    sets = " of both sets" if len(parts.tasks) > 1 else ""
    loss = f"is {' and '.join(found)}" if found else "hardly changes"
    samples = {BETTER: "better", SAME: "about as good", WORSE: "worse"}[heavier_in_words(parts)]
    return (
        f"**With ten times the bank weight the new samples are {samples} on average, and {kept_in_words(parts, HEAVY, LIGHT)}.** "
        f"*Light blue: weight 1. Its loss on new pictures{sets} {loss}.*"
    )


def tau_in_words(sweeps: Parts) -> str:
    """Markdown: in bold what other values of tau do, and a table of them."""
    return f"**{knob_in_words(sweeps, 'tau')}**\n\n{knob_table(sweeps, 'tau')}"


def picked_or_multiplied(parts: Parts) -> str:
    """Whether multiplying the loss gives other samples than picking t."""
    method = "weighted, not sampled"
    advice = "" if new_samples(parts, method, LIGHT) in (WORSE, MIXED) else " So nothing in these samples speaks for picking."
    return f"*Compared with picking (blue), the samples of multiplying (purple) are {samples_in_words(parts, method, LIGHT)}.*{advice}"


def answer_in_words(parts: Parts) -> str:
    """The lesson's answer in Markdown: in bold what each curve does, and a table of `CURVES` against plain fine-tuning."""
    rises = " | ".join(f"rise in the loss on old pictures avoided, {task}" for task in parts.tasks)
    lines = [
        f"| compared with plain fine-tuning | curve of the new pictures, of the bank | new samples | {rises} |",
        "|---" * (3 + len(parts.tasks)) + "|",
    ]
    for method, curves in CURVES.items():
        shares = " | ".join(_percent(rise_avoided(parts, task, method, "plain").mean) for task in parts.tasks)
        lines.append(f"| {method} | {curves} | {samples_in_words(parts, method)} | {shares} |")
    beside = (
        f"Beside *{FLAT}*, which has the same bank and the flat curve, Diff-Tuning's samples are {samples_in_words(parts, OURS, FLAT)}."
    )
    return f"**{_in_a_sentence(parts)}**\n\n" + "\n".join(lines) + f"\n\n{beside} {MEANT}"


def recap_in_words(parts: Parts, sweeps: Parts) -> str:
    """The answer, and what tau does: a list in Markdown."""
    return "\n".join(f"- {sentence}" for sentence in (_in_a_sentence(parts), knob_in_words(sweeps, "tau")) if sentence)


def worst_of_all(parts: Parts, method: str) -> bool:
    """Are its samples the worst among plain fine-tuning's and those of `CURVES`, in every set and under both guidances?"""
    others = [name for name in ("plain", *CURVES) if name != method]
    cells = [(task, guidance) for task in parts.tasks for guidance in GUIDANCES]
    return all(
        score(parts, task, method, guidance).mean > max(score(parts, task, other, guidance).mean for other in others)
        for task, guidance in cells
    )


def _swapped_over_ours(parts: Parts, task: str, tenth: int) -> float:
    """log(loss on old pictures of the swapped method / Diff-Tuning's) in a tenth."""
    return float(np.log(ratio(parts, task, "source", SWAPPED, [tenth]) / ratio(parts, task, "source", OURS, [tenth])))


def _above_one(parts: Parts) -> str:
    """Of the sets on which every method has a higher loss on new pictures than before tuning, in each of the `EARLY` tenths; "" without one."""

    def losses(task: str, method: str) -> list[float]:
        return [ratio(parts, task, "target", method, [n]) for n in EARLY]

    above = [task for task in parts.tasks if min(min(losses(task, name)) for name in ("plain", *CURVES)) > 1]
    if not above:
        return ""
    pairs = [(losses(task, with_bank), losses(task, without)) for task in above for with_bank, without in ((FLAT, "plain"), (OURS, RISE))]
    lower = all(ours < theirs for pair in pairs for ours, theirs in zip(*pair))
    classes = " and ".join(f"*{CLASSES[task]}*" for task in above)
    return (
        f"On the left the lines of {' and '.join(above)} begin above 1: where the noise is light, the untouched model, which had learned a class {classes}, "
        f"was better at them.{' With the same curve for the new pictures, a bank lowers these.' if lower else ''}"
    )


def _in_a_sentence(parts: Parts) -> str:
    """What the rising curve does in place of the flat one, without a bank and with one; what a bank does, and swapping."""
    without, within, swapped = (samples_at_large(parts, *pair) for pair in ((RISE,), (OURS, FLAT), (SWAPPED,)))
    rise = within if within == without else f"{within} where there is a bank, and {without} where there is none"
    kept = {old_pictures(parts, method) for method in BANKED}
    bank = "a bank, whichever its curve, keeps more of the old" if kept == {BETTER} else (
        f"with a bank {OLD[kept.pop()]}" if len(kept) == 1 else "a bank keeps more of the old with some curves and not with others"
    )  # fmt: skip
    worst = "the worst" if worst_of_all(parts, SWAPPED) else swapped
    return f"With the rising curve in place of the flat one the new samples are {rise}; {bank}; with the two curves swapped the new samples are {worst}."


def _noise_end(parts: Parts) -> str:
    """Which methods have learned the last tenth of the chain least and most."""
    last = [{name: ratio(parts, task, "target", name, [TENTHS[-1]]) for name in ("plain", *CURVES)} for task in parts.tasks]
    least = {max(one, key=one.__getitem__) for one in last}
    most = all(set(sorted(one, key=one.__getitem__)[:2]) == set(RISING) for one in last)
    known = [
        *(["the swapped method has learned least"] if least == {SWAPPED} else []),
        *(["the two with a rising curve have learned most"] if most else []),
    ]
    return f"in the last tenth {' and '.join(known)}" if known else "no method stands out in the last tenth"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %".replace("-", "−")


def _on_average(parts: Parts, method: str, other: str) -> str:
    """Which of `COMPARED`: log(other's distance / the method's), the mean over the sets and ways of guidance that were measured."""
    return in_a_word([mean_saved(parts, method, other)], ALIKE)
