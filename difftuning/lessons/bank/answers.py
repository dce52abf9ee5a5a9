"""What the runs of lesson 05 answer, in words that follow the tables: a bank that is not there is not spoken of."""

from __future__ import annotations

from typing import Callable, Mapping, Sequence

import numpy as np

from ..parts import BETTER, KEPT, SAME, STEPS, TENTHS, WORSE, Parts, old_pictures, ratio, rise_avoided
from ..parts_words import ORDINALS, longest_run, of_set, samples_in_words, settings, stretch_in_words
from .banks import BANKS, NEW, NOISE, OWN, REAL, SHIPPED, WITHOUT

LABELS = ("the null label", "their own labels", "neither: there is hardly a difference")
SHARES = {"hardly any of it": 0.1, "less than half": 0.5, "more than half": 0.9, "nearly all of it": np.inf}  # up to
FRACTIONS = {"a tenth": 1 / 10, "a fifth": 1 / 5, "a quarter": 1 / 4, "a third": 1 / 3, "two fifths": 2 / 5, "half": 1 / 2,
             "three fifths": 3 / 5, "two thirds": 2 / 3, "three quarters": 3 / 4, "four fifths": 4 / 5, "nine tenths": 9 / 10}  # fmt: skip
PROTECT = {  # "protects ..." or "protect ..."
    "better": "better", "partly better": "better on one of the sets", "about the same": "about as well", "worse": "less",
    "partly worse": "less on one of the sets", "mixed": "better on one set and less on the other",
}  # fmt: skip
MIDDLE = [4, 5, 6]  # tenths of the chain
CLEAR, MEET, HELD = 1.05, 1.15, 0.2  # one loss is clearly above another, lines nearly meet, a loss is held


def avoided_by_hand(parts: Parts) -> str:
    """How a bar of protection comes about, on one set: digits, where the tables hold it."""
    task = parts.tasks[-1]
    without, ours = (round(ratio(parts, task, "source", method), 2) for method in (WITHOUT, SHIPPED))
    share = 100 * rise_avoided(parts, task, SHIPPED, WITHOUT).mean
    rises = f"Take {task}: without a bank the loss rises to {without:.2f} times what it was, with the shipped one to {ours:.2f} times."
    if ours >= without:
        return f"{rises} It avoids nothing of the rise."
    return f"{rises} Of a rise of {without - 1:.2f} it avoids {without - ours:.2f}, or about {share:.0f} %."


def protection_in_words(parts: Parts) -> str:
    """What to see in the bars: the new pictures themselves, a small bank, and real pictures."""
    own, small, noise = (_avoided(parts, name) for name in (NEW, "bank of 100", NOISE))
    words = f"*The new pictures themselves, replayed as if they were memories, {_do_what(own)}.*"
    if small > max(noise, KEPT):
        words += " The model does not just learn the bank by heart: each of the hundred is seen some fifty times, and yet other pictures are protected."
    return f"{words} {number_or_kind(parts)}"


def noise_and_memories(parts: Parts) -> str:
    """Where on the chain noise avoids how much of the rise, where memories do better, and what real pictures add."""
    lines = [
        [[ratio(parts, task, "source", name, [n]) for n in TENTHS] for name in parts.present((NOISE, SHIPPED, WITHOUT, REAL))]
        for task in parts.tasks
    ]
    below = longest_run([all(noise[n] > CLEAR * ours[n] for noise, ours, *_ in lines) for n in range(len(TENTHS))])
    where = f"is clearly lower than theirs {stretch_in_words(below)}" if below else "is nowhere clearly lower than theirs"
    words = f"*In tenths four to six random numbers avoid {_of_the_rise(parts, NOISE, MIDDLE)}. The shipped bank's loss {where}.* {_real_ones(parts)}"
    if all(max(line[-1] for line in one) < MEET * min(line[-1] for line in one) for one in lines):
        words += " In the last tenth, where few bank pictures are trained, all lines nearly meet."
    return words


def _real_ones(parts: Parts) -> str:
    if not parts.present([REAL]):
        return "What real pictures in place of the model's own would do we have not run."
    return f"Real pictures in place of the model's own protect {PROTECT[old_pictures(parts, REAL, 'Diff-Tuning')]}."


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
    null, own = (_avoided(parts, method) for method in (SHIPPED, OWN))
    return LABELS[2] if abs(own - null) < KEPT else LABELS[1] if own > null else LABELS[0]


def labels_along_the_chain(parts: Parts) -> str:
    """What own labels avoid, how far up the chain they hold the loss on old pictures, and what they do to the new samples."""
    held = [all(ratio(parts, task, "source", OWN, [n]) < 1 + HELD for task in parts.tasks) for n in TENTHS]
    below = held.index(False) if False in held else len(held)
    words = f"**Under their own labels memories avoid {_of_the_rise(parts, OWN)}; under the null label {_of_the_rise(parts, SHIPPED)}.**"
    if below:
        words += f" *With own labels the old pictures' loss rises by less than a fifth up to the {ORDINALS[below - 1]} tenth.*"
    if all(ratio(parts, task, "source", SHIPPED, [10]) > CLEAR * ratio(parts, task, "source", OWN, [10]) for task in parts.tasks):
        words += (
            " In the last tenth, too, it is clearly lower than with the null label, and there are as few bank pictures there. So their small number "
            "alone is not why the null label protects little there."
        )
    return f"{words} The new samples, compared with those of the null label, are {samples_in_words(parts, OWN, SHIPPED)}."


def answer_in_words(parts: Parts) -> str:
    """The answer to the lesson's question in Markdown: in bold what controls, the model's own samples and real pictures protect."""
    head = (
        "No"
        if share_of_noise(parts) >= SHARES["more than half"]
        else "Mostly"
        if share_of_noise(parts) < SHARES["less than half"]
        else "In part"
    )
    new = _as_a_control(_avoided(parts, NEW)) if parts.present([NEW]) else ""
    found = _own_beside_real(parts) if parts.present([REAL]) else ""
    good = " Memories need not be good: the" if found.startswith(("about", "better than")) else " The"
    real = f"{good} model's own samples, many of them poor, protect {found}." if found else ""
    samples = samples_in_words(parts, NOISE, SHIPPED)
    return (
        f"**{head}: random numbers avoid {_of_what_memories_avoid(parts)}{new}.{real}** With random numbers in place of memories the new samples are "
        f"{samples}."
    )


def recap_in_words(parts: Parts) -> str:
    """All findings in one sentence."""
    real = f"the model's own samples protect {_own_beside_real(parts)}; " if parts.present([REAL]) else ""
    new = f"the new pictures, replayed, {_do_what(_avoided(parts, NEW))}; " if parts.present([NEW]) else ""
    labels = {
        LABELS[0]: "the null label protects more than own labels",
        LABELS[
            1
        ]: f"under their own labels memories protect {'most of all' if _own_labels_lead(parts) else 'more than under the null label'}",
        LABELS[2]: "the labels hardly matter",
    }[labels_in_words(parts)]
    return f"- Of the rise in the loss on old pictures, random numbers avoid {_of_what_memories_avoid(parts)}; {new}{real}{labels}."


def cells_in_words(parts: Parts) -> str:
    """How often a bank makes the new samples better than none, over all banks and settings."""
    found = {name: list(settings(parts, name, WITHOUT).values()) for name in parts.present(BANKS)}
    words = sum(found.values(), [])
    better, same, worse = (words.count(word) for word in (BETTER, SAME, WORSE))
    ours = found.get(SHIPPED, []).count(BETTER)
    return (
        f"Of {len(words)} cells {better} are better, {same} about the same and {worse} worse. The shipped bank is better in {ours or 'none'} of its "
        f"{len(found.get(SHIPPED, []))}."
    )


def short_and_long(changed: Mapping[str, float], steps: int, parts: Parts) -> str:
    """What memories avoid of the rise in your short run, against the long ones; `changed`: loss after / before."""
    rise = changed["no bank"] - 1
    after = f"after {STEPS} steps memories avoid {_on_each(parts, lambda one: _avoided(one, SHIPPED))}"
    if rise <= 0:
        return f"after {steps} steps nothing is forgotten without a bank; {after}"
    mine = {name: (changed["no bank"] - changed[name]) / rise for name in ("random numbers", "memories")}
    noise = "do harm" if mine["random numbers"] < 0 else f"avoid {_percent(mine['random numbers'])}"
    ours = "avoid nothing" if mine["memories"] < 0.005 else f"avoid {_percent(mine['memories'])}"
    return f"after {steps} steps memories {ours} of the rise, and random numbers {noise}; {after}"


def number_or_kind(parts: Parts) -> str:
    """What the runs say of how many pictures a bank needs and of which classes."""
    if not parts.present(["bank as small, all classes"]):
        return "The small banks hold fewer kinds, too, so these runs cannot separate number from kind."
    found = PROTECT[old_pictures(parts, "bank of far classes", "bank as small, all classes")]
    count = {"less": ": the classes count", "about as well": ": the classes count little"}.get(found, "")
    return f"Compared with as many pictures of all kinds, far classes alone protect {found}{count}."


def coverage_and_protection(parts: Parts) -> str:
    """What a small bank covers against what it protects."""
    share = share_of_memories(parts, "bank of 100")
    return (
        f"A bank of 125 pictures in equal shares covers less than a third of the source. {'Yet the' if share > 0.5 else 'The'} bank of 100 gave about "
        f"{fraction_in_words(share)} of the protection of the thousand; its mix is the model's own. Whether a bank that covers more protects more stays open: "
        "none in equal shares was tuned with."
    )


def _of_what_memories_avoid(parts: Parts) -> str:
    """What share of the forgetting that memories avoid random numbers avoid, set by set."""
    return _on_each(parts, share_of_noise, " of what memories avoid")


def _of_the_rise(parts: Parts, method: str, tenths: Sequence[int] = TENTHS) -> str:
    return _on_each(parts, lambda one: _avoided(one, method, tenths), " of the rise")


def _on_each(parts: Parts, share: Callable[[Parts], float], of: str = "") -> str:
    """ "10 % of it on one set and 20 % on the other"; with one set "10 % of it"."""
    shares = {task: _percent(share(of_set(parts, task))) for task in parts.tasks}
    if len(shares) == 1:
        return f"{next(iter(shares.values()))}{of}"
    told = [f"{words}{'' if place else of} on {task}" for place, (task, words) in enumerate(shares.items())]
    return f"{', '.join(told[:-1])} and {told[-1]}"


def _own_labels_lead(parts: Parts) -> bool:
    """Do they avoid more than any bank under the null label, on every set?"""
    avoided = ([rise_avoided(parts, task, name, WITHOUT).mean for name in (OWN, *parts.present(BANKS))] for task in parts.tasks)
    return all(own > max(others) for own, *others in avoided)


def _as_a_control(share: float) -> str:
    return f", and the new pictures, replayed, {_do_what(share)}"


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


def _avoided(parts: Parts, method: str, tenths: Sequence[int] = TENTHS) -> float:
    return float(np.mean([rise_avoided(parts, task, method, WITHOUT, tenths).mean for task in parts.tasks]))
