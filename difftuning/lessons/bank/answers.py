"""What the runs of lesson 05 answer, in words that follow the tables: a bank that is not there is not spoken of."""

from __future__ import annotations

from typing import Mapping

import numpy as np

from ..knobs import KNOBS, knob_in_words, knob_table
from ..numerals import listed
from ..parts import (
    BETTER,
    KEPT,
    MIXED,
    NOT_MEASURED,
    SAME,
    TENTHS,
    WORSE,
    Parts,
    in_a_word,
    mean_avoided,
    new_samples,
    old_pictures,
    ratio,
    rise_avoided,
)
from ..parts_words import ORDINALS, longest_run, of_set, samples_in_words, stretch_in_words
from .banks import BANKS, NAMES, NEW, NOISE, OWN, REAL, SHIPPED, WITHOUT

LABELS = ("the null label", "their own labels", "neither: there is hardly a difference")
SHARES = {"hardly any of it": 0.1, "less than half": 0.5, "more than half": 0.9, "nearly all of it": np.inf}  # up to
FRACTIONS = {"a tenth": 1 / 10, "a seventh": 1 / 7, "a fifth": 1 / 5, "a quarter": 1 / 4, "a third": 1 / 3, "two fifths": 2 / 5, "half": 1 / 2,
             "three fifths": 3 / 5, "two thirds": 2 / 3, "three quarters": 3 / 4, "four fifths": 4 / 5, "nine tenths": 9 / 10}  # fmt: skip
PROTECT = {  # "protects ..." or "protect ..."
    BETTER: "better", SAME: "about as well", WORSE: "less", MIXED: "better on one set and less on the other",
    NOT_MEASURED: "by an amount that was not measured",
}  # fmt: skip
CLEAR, MEET, HELD = 1.05, 1.15, 0.2  # one loss is clearly above another, lines nearly meet, a loss is held


def avoided_by_hand(parts: Parts) -> str:
    """How a bar of protection comes about, on one set: digits, where the tables hold it."""
    task = parts.tasks[-1]
    without, ours = (ratio(parts, task, "source", method) - 1 for method in (WITHOUT, SHIPPED))
    avoided = f"about {_percent(rise_avoided(parts, task, SHIPPED, WITHOUT).mean)}" if ours < without else "nothing"
    return f"Take {task}: the loss rises by {_percent(without)} without a bank and by {_percent(ours)} with Diff-Tuning, which avoids {avoided} of the rise."


def protection_in_words(parts: Parts) -> str:
    """What to see in the bars: the new pictures themselves, and number against kind."""
    return f"*The new pictures themselves, replayed as if they were memories, {_do_what(_avoided(parts, NEW))}.* {number_or_kind(parts)}"


def noise_and_memories(parts: Parts) -> str:
    """Where on the chain memories do better than noise, and what real pictures add."""
    lines = [
        [[ratio(parts, task, "source", name, [n]) for n in TENTHS] for name in parts.present((NOISE, SHIPPED, WITHOUT, REAL))]
        for task in parts.tasks
    ]
    below = longest_run([all(noise[n] > CLEAR * ours[n] for noise, ours, *_ in lines) for n in range(len(TENTHS))])
    where = (
        f"is clearly lower than with a bank of noise {stretch_in_words(below)}"
        if below
        else "is nowhere clearly lower than with a bank of noise"
    )
    words = f"*With Diff-Tuning the loss {where}.*"
    if parts.present([REAL]):
        words += f" Real pictures in place of the model's own protect {PROTECT[old_pictures(parts, REAL, SHIPPED)]}."
    if all(max(line[-1] for line in one) < MEET * min(line[-1] for line in one) for one in lines):
        words += " In the last tenth all lines nearly meet."
    return words


def share_of_memories(parts: Parts, method: str) -> float:
    """How much of the protection that the shipped bank gives another one gives; mean over the sets."""
    return _avoided(parts, method) / _avoided(parts, SHIPPED)


def share_of_noise(parts: Parts) -> float:
    """The same of a bank of noise."""
    return share_of_memories(parts, NOISE)


def fraction_in_words(share: float) -> str:
    """The simple fraction that is nearest."""
    return min(FRACTIONS, key=lambda words: abs(FRACTIONS[words] - share))


def noise_in_words(parts: Parts) -> str:
    """Which of `SHARES` that is."""
    return next(words for words, most in SHARES.items() if share_of_noise(parts) < most)


def labels_in_words(parts: Parts) -> str:
    """Which of `LABELS` avoid more of the rise in the loss on old pictures; mean over the sets."""
    more = in_a_word([mean_avoided(parts, OWN, WITHOUT, instead=SHIPPED)], KEPT)
    return {BETTER: LABELS[1], WORSE: LABELS[0], SAME: LABELS[2]}[more]


def labels_along_the_chain(parts: Parts) -> str:
    """In bold what own labels avoid; how far up the chain they hold the loss on old pictures, and what they do to the new samples."""
    held = [all(ratio(parts, task, "source", OWN, [n]) < 1 + HELD for task in parts.tasks) for n in TENTHS]
    below = held.index(False) if False in held else len(held)
    words = (
        f"**Under their own labels memories avoid {_percent(_avoided(parts, OWN))} of the rise, under the null label "
        f"{_percent(_avoided(parts, SHIPPED))}{_mean_over_sets(parts)}.**"
    )
    if below:
        words += f" *With own labels the old pictures' loss rises by less than a fifth up to the {ORDINALS[below - 1]} tenth.*"
    if all(ratio(parts, task, "source", SHIPPED, [10]) > CLEAR * ratio(parts, task, "source", OWN, [10]) for task in parts.tasks):
        words += " Few bank pictures fall in the last tenth under either label, yet own labels protect there."
    return f"{words} The new samples, compared with those of the null label, are {samples_in_words(parts, OWN, SHIPPED)}."


def answer_in_words(parts: Parts) -> str:
    """The answer to the lesson's question in Markdown: in bold what random numbers and the model's own samples protect; then new pictures."""
    share = share_of_noise(parts)
    head = "No" if share >= SHARES["more than half"] else "Mostly" if share < SHARES["less than half"] else "In part"
    real = f", and the model's own samples, many of them poor, protect {_own_beside_real(parts)}" if parts.present([REAL]) else ""
    new = f" The new pictures, replayed, {_do_what(_avoided(parts, NEW))}." if parts.present([NEW]) else ""
    return f"**Is it the memories that protect? {head}: {_noise_of_memories(parts)}{real}.**{new}"


def recap_in_words(parts: Parts, sweeps: Parts) -> str:
    """All findings, a list in Markdown."""
    noise = _noise_of_memories(parts)
    found = [f"{noise[0].upper()}{noise[1:]}."]
    if parts.present([REAL]):
        found.append(f"The model's own samples protect {_own_beside_real(parts)}.")
    found += [
        size_in_words(sweeps),
        {
            LABELS[0]: "The null label protects more than own labels.",
            LABELS[
                1
            ]: f"Under their own labels memories protect {'best' if _own_labels_lead(parts) else 'more than under the null label'}.",
            LABELS[2]: "The labels hardly matter.",
        }[labels_in_words(parts)],
    ]
    return "\n".join(f"- {sentence}" for sentence in found if sentence)


def any_bank_in_words(parts: Parts) -> str:
    """Which banks make the new samples better or worse than none does, on average over all comparisons."""
    words = {name: new_samples(parts, name, WITHOUT) for name in parts.present(BANKS)}
    found = {word: [NAMES.get(name, name) for name, one in words.items() if one == word] for word in (BETTER, WORSE)}
    told = "; ".join(f"clearly {word} with {listed(names)}" for word, names in found.items() if names)
    if not told:
        return "On average over these comparisons no bank makes the new samples clearly better or worse than they are without one."
    return f"On average over these comparisons the new samples are {told}, compared with no bank."


def size_in_words(sweeps: Parts) -> str:
    """What the smallest and the shipped bank avoid of plain fine-tuning's rise, mean over the sets that have both; "" where none was run."""
    sizes = KNOBS["bank size"].lines[""]
    for size, method in sizes.items():
        shares = [[rise_avoided(sweeps, task, name, "plain").mean for name in (method, SHIPPED)] for task in sweeps.tasks]
        shares = [pair for pair in shares if np.isfinite(pair).all()]
        if method != SHIPPED and shares:
            few, many = np.mean(shares, axis=0)
            return (
                f"A bank of {size} pictures avoids {_percent(few)} of the rise under plain fine-tuning, the shipped bank {_percent(many)}."
            )
    return ""


def size_and_share(sweeps: Parts) -> str:
    """Markdown: in bold what the bank's size does, the share in a sentence, and a table of both."""
    bold = f"**{size_in_words(sweeps)}**" if size_in_words(sweeps) else ""
    table = knob_table(sweeps, "bank size", "bank share")
    return "\n\n".join(words for words in (bold, knob_in_words(sweeps, "bank share"), table) if words)


def short_and_long(changed: Mapping[str, float], parts: Parts) -> str:
    """What memories avoid of the rise in your short run, against the long ones; `changed`: loss after / before, by method."""
    rise, long = changed[WITHOUT] - 1, f"{_percent(_avoided(parts, SHIPPED))} in the long ones{_mean_over_sets(parts)}"
    if rise <= 0:
        return f"In your short run nothing is forgotten without a bank. Diff-Tuning avoids {long}."
    mine = {name: (changed[WITHOUT] - changed[name]) / rise for name in (NOISE, SHIPPED)}
    noise = "does harm" if mine[NOISE] < 0 else f"avoids {_percent(mine[NOISE])}"
    return f"Diff-Tuning avoids {_percent(mine[SHIPPED])} of the rise in your short run, {long}. In yours a bank of noise {noise}."


def number_or_kind(parts: Parts) -> str:
    """What the runs say of how many pictures a bank needs and of which classes."""
    if not parts.present(["bank as small, all classes"]):
        return "The small banks hold fewer kinds, too, so these runs cannot separate number from kind."
    found = PROTECT[old_pictures(parts, "bank of far classes", "bank as small, all classes")]
    rest = _avoided(parts, "bank of far classes") / _avoided(parts, "bank as small, all classes")
    only = "but still" if rest > 0.5 else "and only"
    still = f", {only} give {_part(rest)} of that protection" if found == PROTECT[WORSE] and 0.05 <= rest <= 0.95 else ""
    return f"Compared with as many pictures of all kinds, far classes alone protect {found}{still}."


def coverage_and_protection(parts: Parts) -> str:
    """What a small bank covers against what it protects."""
    share = share_of_memories(parts, "bank of 100")
    return (
        f"A bank of 125 pictures in equal shares covers less than a third of the source. {'Yet the' if share > 0.5 else 'The'} bank of 100 gave about "
        f"{fraction_in_words(share)} of the protection of the thousand; its mix is the model's own. Whether a bank that covers more protects more stays open: "
        "none in equal shares was tuned with."
    )


def _noise_of_memories(parts: Parts) -> str:
    """ "a bank of noise gives about a third of the protection of memories on one set and about half on the other"; with one set, on that alone."""
    shares = {task: _part(share_of_noise(of_set(parts, task))) for task in parts.tasks}
    of = " of the protection that memories give"
    told = [f"{words}{'' if place else of} on {task}" for place, (task, words) in enumerate(shares.items())]
    return f"a bank of noise gives {' and '.join(told)}"


def _part(share: float) -> str:
    if share < 0.05:
        return "next to nothing"
    return "all" if share > 0.95 else f"about {fraction_in_words(share)}"


def _mean_over_sets(parts: Parts) -> str:
    return ", on average over the sets" if len(parts.tasks) > 1 else ""


def _own_labels_lead(parts: Parts) -> bool:
    """Do they avoid more than any bank under the null label, on every set?"""
    avoided = ([rise_avoided(parts, task, name, WITHOUT).mean for name in (OWN, *parts.present(BANKS))] for task in parts.tasks)
    return all(own > max(others) for own, *others in avoided)


def _do_what(share: float) -> str:
    return "protect, too" if share > KEPT else "protect nothing" if share > -KEPT else "do harm"


def _own_beside_real(parts: Parts) -> str:
    """How the model's own samples protect, compared with real pictures."""
    found = PROTECT[old_pictures(parts, SHIPPED, REAL)]
    return (
        f"{found} as real pictures"
        if found.startswith("about")
        else f"{found} {'than' if found in ('better', 'less') else 'compared with'} real pictures"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share > 0.005 else "nothing"


def _avoided(parts: Parts, method: str) -> float:
    return mean_avoided(parts, method, WITHOUT).mean
