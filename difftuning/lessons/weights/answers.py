"""What the runs of lesson 04 answer, in words that follow the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..ideal.transfer import CLASSES
from ..parts import ALIKE, BETTER, GUIDANCES, RUNS, SAME, TENTHS, WORSE, distance_saved, old_pictures, ratio, rise_avoided, score
from ..parts_words import (
    MEANT,
    OLD,
    kept_in_words,
    longest_run,
    samples_in_words,
    set_by_set,
    settings,
    stretch_in_words,
    tenths_in_words,
)

if TYPE_CHECKING:
    from ..parts import Parts

COMPARED = (BETTER, SAME, WORSE)
RISE, OURS, SWAPPED = "reconsolidation only", "Diff-Tuning", "weightings swapped"
CURVES = {RISE: "rising, no bank", "retention only": "flat, bank falling", OURS: "rising, bank falling", SWAPPED: "falling, bank rising"}
RISING, BANKED = (RISE, OURS), ("retention only", OURS, SWAPPED)
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
    """Markdown: what could lie behind these losses and what the runs do not separate, a paragraph for each."""
    found = (_above_one(parts), falling_or_rising(parts), noise_end_kept(parts))
    return "\n\n".join(words for words in found if words)


def falling_or_rising(parts: Parts) -> str:
    """Where along the chain Diff-Tuning, whose bank falls, keeps clearly more of the old than the swapped method, whose bank rises, and where less."""

    def told(one: Parts) -> str:
        (task,) = one.tasks
        apart = [np.log(ratio(one, task, "source", SWAPPED, [n]) / ratio(one, task, "source", OURS, [n])) for n in TENTHS]
        more, less = ([n for n, log in zip(TENTHS, apart) if sign * log > CLEAR] for sign in (1, -1))
        return f"more in {tenths_in_words(more)}, less in {tenths_in_words(less)}"

    found = set_by_set(parts, told)
    return (
        "Diff-Tuning's bank falls, the swapped method's rises. Where does the first keep clearly more of the old than the second, and where clearly "
        f"less? {found[0].upper()}{found[1:]}. But the two differ in the curve of the new pictures, too, and no run changes the bank's curve alone. So what its shape does stays open."
    )


def noise_end_kept(parts: Parts) -> str:
    """How few bank pictures Diff-Tuning trains in the last tenth, and whether the swapped method, which trains many there, loses less."""
    logs = [
        float(np.log(ratio(parts, task, "source", SWAPPED, [TENTHS[-1]]) / ratio(parts, task, "source", OURS, [TENTHS[-1]])))
        for task in parts.tasks
    ]
    less = [log < -CLOSE for log in logs]
    if all(less):
        found = "loses less there. So their small number may be a reason"
    elif any(less):
        found = "loses less there on one of the sets alone. So these runs do not say whether their small number is the reason"
    else:
        found = "loses no less there. So their small number alone does not explain it, and these runs do not say what does"
    return (
        "Diff-Tuning trains only one bank picture in a hundred in the last tenth. But the swapped method trains nearly one in five of its bank "
        f"pictures there, and {found}."
    )


def heavier_along_the_chain(parts: Parts) -> str:
    """What bank weight 1 does to the old pictures, and where along the chain to the loss on new ones, against 0.1."""
    losses = [[[ratio(parts, task, "target", name, [n]) for name in (HEAVY, LIGHT)] for n in TENTHS] for task in parts.tasks]
    lower, higher = (
        longest_run([all(sign * np.log(one[n][0] / one[n][1]) > CLOSE for one in losses) for n in range(len(TENTHS))]) for sign in (-1, 1)
    )
    found = [f"{word} {stretch_in_words(where)}" for word, where in (("lower", lower), ("higher", higher)) if where]
    sets = " of both sets" if len(parts.tasks) > 1 else ""
    loss = f"The loss on new pictures{sets} is {' and '.join(found)}" if found else f"The loss on new pictures{sets} hardly changes"
    return f"*With weight 1, light blue, {kept_in_words(parts, HEAVY, LIGHT)} than with weight 0.1.* {loss}."


def picked_or_multiplied(parts: Parts) -> str:
    """Whether multiplying the loss gives other samples than picking t."""
    method = "weighted, not sampled"
    advice = "" if WORSE in settings(parts, method, LIGHT).values() else " So nothing in these samples speaks for picking."
    return f"*Compared with picking (blue), the samples of multiplying (purple) are {samples_in_words(parts, method, LIGHT)}.*{advice}"


def answer_in_words(parts: Parts) -> str:
    """The lesson's answer in Markdown: in bold what each curve does, and a table of `CURVES` against plain fine-tuning."""
    words = f"**{_of_the_rise(parts)} {_of_the_bank(parts)} {_of_the_swap(parts)}**"
    rises = " | ".join(f"rise in the loss on old pictures avoided, {task}" for task in parts.tasks)
    lines = [
        f"| compared with plain fine-tuning | curve of the new pictures, of the bank | new samples | {rises} |",
        "|---" * (3 + len(parts.tasks)) + "|",
    ]
    for method, curves in CURVES.items():
        shares = " | ".join(_percent(rise_avoided(parts, task, method, "plain").mean) for task in parts.tasks)
        lines.append(f"| {method} | {curves} | {samples_in_words(parts, method)} | {shares} |")
    return words + "\n\n" + "\n".join(lines) + f"\n\n{MEANT}"


def recap_in_words(parts: Parts) -> str:
    """The answer in one sentence."""
    swapped = "the worst of all" if worst_of_all(parts, SWAPPED) else samples_in_words(parts, SWAPPED)
    return (
        f"- With the rising curve alone the new samples are {samples_in_words(parts, RISE)}, compared with plain fine-tuning; with a bank "
        f"{_old_with_a_bank(parts)}; with the curves swapped the new samples are {swapped}."
    )


def worst_of_all(parts: Parts, method: str) -> bool:
    """Are its samples the worst among plain fine-tuning's and those of `CURVES`, in every set and under both guidances?"""
    others = [name for name in ("plain", *CURVES) if name != method]
    cells = [(task, guidance) for task in parts.tasks for guidance in GUIDANCES]
    return all(
        score(parts, task, method, guidance).mean > max(score(parts, task, other, guidance).mean for other in others)
        for task, guidance in cells
    )


def _above_one(parts: Parts) -> str:
    """Of the sets on which every method has a higher loss on new pictures than before tuning, in each of the `EARLY` tenths; "" without one."""

    def losses(task: str, method: str) -> list[float]:
        return [ratio(parts, task, "target", method, [n]) for n in EARLY]

    above = [task for task in parts.tasks if min(min(losses(task, name)) for name in ("plain", *CURVES)) > 1]
    if not above:
        return ""
    pairs = [
        (losses(task, with_bank), losses(task, without))
        for task in above
        for with_bank, without in (("retention only", "plain"), (OURS, RISE))
    ]
    lower = all(ours < theirs for pair in pairs for ours, theirs in zip(*pair))
    classes = " and ".join(f"*{CLASSES[task]}*" for task in above)
    few = " and ".join(f"{RUNS[task]:,}" for task in above)
    return (
        f"On the left the lines of {' and '.join(above)} begin above 1. Overfitting may do this, for {few} pictures are few. Forgetting may do it, too: "
        f"the source has a class {classes}, so the model could draw such pictures before{', and a bank lowers the lines' if lower else ''}. "
        "These runs do not separate the two."
    )


def _of_the_rise(parts: Parts) -> str:
    return (
        f"Compared with plain fine-tuning, the rising curve alone makes the new samples {samples_in_words(parts, RISE)}, and "
        f"{kept_in_words(parts, RISE)}."
    )


def _of_the_bank(parts: Parts) -> str:
    return (
        f"With a bank {_old_with_a_bank(parts)}. Diff-Tuning has both; compared with the rising curve alone, its new samples are "
        f"{samples_in_words(parts, OURS, RISE)}."
    )


def _of_the_swap(parts: Parts) -> str:
    worst = worst_of_all(parts, SWAPPED)
    return f"With the two swapped, the new samples are {'the worst of all' if worst else samples_in_words(parts, SWAPPED)}."


def _old_with_a_bank(parts: Parts) -> str:
    """What the methods with a bank have in common, and the least and most of the rise that they avoid."""
    kept = {old_pictures(parts, method) for method in BANKED}
    if kept != {BETTER}:
        return OLD[kept.pop()] if len(kept) == 1 else "more of the old is kept by some methods and not by others"
    shares = [100 * rise_avoided(parts, task, method, "plain").mean for task in parts.tasks for method in BANKED]
    return f"more of the old is kept, whichever curve the bank has: {min(shares):.0f} to {max(shares):.0f} % of the rise in its loss is avoided"


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
    gains = [distance_saved(parts, task, method, other, guidance) for task in parts.tasks for guidance in GUIDANCES]
    saved = float(np.mean([gain.mean for gain in gains if gain.seeds]))
    return SAME if abs(saved) < ALIKE else BETTER if saved > 0 else WORSE
